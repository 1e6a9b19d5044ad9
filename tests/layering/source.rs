//! Reads one source file into the facts that the rules are about. Works on tokens, so that formatting, comments, groups
//! and line breaks make no difference. Macros are not expanded.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// A path as written, or one leaf of a `use` tree.
pub(crate) struct Reference {
    pub(crate) line: usize,
    /// The module that it is written in, inline modules included.
    pub(crate) within: Vec<String>,
    pub(crate) path: Vec<String>,
    /// The name that it is bound to.
    pub(crate) name: String,
}

#[derive(Default)]
pub(crate) struct Facts {
    file: String,
    pub(crate) references: Vec<Reference>,
    /// Identifiers and string literals, with their lines.
    pub(crate) words: Vec<(usize, String)>,
    /// Modules in files of their own that are declared under `#[cfg(test)]`.
    pub(crate) test_modules: Vec<Vec<String>>,
}

/// `src/a/b.rs` and `src/a/b/mod.rs` → `[a, b]`.
pub(crate) fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').filter(|name| *name != "lib").map(String::from).collect()
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == ':' && p.spacing() == Spacing::Joint)
        && is_punct(tokens.get(at + 1), ':')
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string().trim_start_matches("r#").into()),
        _ => None,
    }
}

/// The attributes before `at`'s item, as text without blanks and as tokens. Moves `at` past them.
fn take_attributes(tokens: &[TokenTree], at: &mut usize) -> Vec<(String, TokenStream)> {
    let mut found = Vec::new();
    while is_punct(tokens.get(*at), '#') {
        let group = *at + 1 + usize::from(is_punct(tokens.get(*at + 1), '!'));
        let Some(TokenTree::Group(body)) = tokens.get(group) else { break };
        let text = body.stream().to_string().split_whitespace().collect();
        found.push((text, body.stream()));
        *at = group + 1;
    }
    found
}

/// How an item starts: whether it is `pub`, its keyword, and the word after that.
fn head(tokens: &[TokenTree], at: usize) -> (bool, String, String) {
    let mut next = at;
    let public = ident(tokens.get(next)).as_deref() == Some("pub");
    if public {
        next += 1;
        next += usize::from(matches!(tokens.get(next), Some(TokenTree::Group(_))));
    }
    let word = |at| ident(tokens.get(at)).unwrap_or_default();
    (public, word(next), word(next + 1))
}

/// The index after the item at `at`: after its `;` or its body, whichever comes first.
fn after_item(tokens: &[TokenTree], at: usize) -> usize {
    let is_use = head(tokens, at).1 == "use";
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => !is_use && group.delimiter() == Delimiter::Brace,
        token => is_punct(Some(token), ';'),
    };
    tokens[at..].iter().position(ends).map_or(tokens.len(), |n| at + n + 1)
}

/// Reads the path or `use` tree at `at` into `leaves`, as path and bound name. Answers with the index after it.
fn read_path(tokens: &[TokenTree], mut at: usize, prefix: &[String], leaves: &mut Vec<(Vec<String>, String)>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at) {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut next = 0;
                while next < inner.len() {
                    next = read_path(&inner, next, &path, leaves);
                    next += inner[next..].iter().take_while(|token| !is_punct(Some(token), ',')).count() + 1;
                }
                return at + 1;
            }
            token if is_punct(token, '*') => path.push("*".into()),
            token => match ident(token) {
                Some(name) => path.push(name),
                None => break,
            },
        }
        at += 1;
        if !is_path_separator(tokens, at) {
            break;
        }
        at += 2;
    }
    if path.len() > 1 && path.last().is_some_and(|name| name == "self") {
        path.pop();
    }
    let alias = if ident(tokens.get(at)).as_deref() == Some("as") { ident(tokens.get(at + 1)) } else { None };
    let name = alias.or_else(|| path.last().cloned()).unwrap_or_default();
    leaves.push((path, name));
    at
}

impl Facts {
    pub(crate) fn of(file: &str, source: &str) -> Self {
        let tokens: TokenStream = source.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut facts = Self { file: file.into(), ..Self::default() };
        facts.scan(tokens, &module_of(file));
        facts
    }

    fn scan(&mut self, stream: TokenStream, within: &[String]) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            let attributes = take_attributes(&tokens, &mut at);
            let (public, keyword, name) = head(&tokens, at);
            let module = [within, std::slice::from_ref(&name)].concat();
            if attributes.iter().any(|(text, _)| text == "cfg(test)" || text.starts_with("cfg(all(test,")) {
                if keyword == "mod" {
                    self.test_modules.push(module);
                }
                at = after_item(&tokens, at);
                continue;
            }
            // The two places where a public name may say which engine it is for, in its `cfg` too.
            match (public, &*keyword, &*self.file) {
                (true, "mod", "src/adapters/mod.rs") if super::ENGINES.contains(&&*name) => {
                    at = after_item(&tokens, at);
                    continue;
                }
                (true, "use", "src/lib.rs") => {
                    let words = self.words.len();
                    let end = after_item(&tokens, at);
                    while at < end {
                        at = self.token(&tokens, at, within);
                    }
                    self.words.truncate(words);
                    continue;
                }
                _ => {}
            }
            for (_, body) in attributes.into_iter().filter(|(text, _)| !text.starts_with("doc")) {
                self.scan(body, within);
            }
            match tokens.get(after_item(&tokens, at.min(tokens.len())) - 1) {
                Some(TokenTree::Group(body)) if keyword == "mod" => {
                    self.words.push((body.span().start().line, name));
                    self.scan(body.stream(), &module);
                    at = after_item(&tokens, at);
                }
                _ if at < tokens.len() => at = self.token(&tokens, at, within),
                _ => {}
            }
        }
    }

    /// Takes in what is at `at`: a path, a group, a word, or nothing of interest. Answers with the index after it.
    fn token(&mut self, tokens: &[TokenTree], at: usize, within: &[String]) -> usize {
        let line = tokens[at].span().start().line;
        let before = at.checked_sub(1).and_then(|n| tokens.get(n));
        let in_use = ident(before).as_deref() == Some("use");
        let starts_path =
            ident(tokens.get(at)).is_some() && is_path_separator(tokens, at + 1) && !is_punct(before, '$');
        match &tokens[at] {
            _ if in_use || starts_path => {
                let mut leaves = Vec::new();
                let end = read_path(tokens, at, &[], &mut leaves);
                // `crate::name!(…)`: an exported macro has no module.
                let call = is_punct(tokens.get(end), '!') && matches!(tokens.get(end + 1), Some(TokenTree::Group(_)));
                for (path, name) in leaves {
                    self.words.extend(path.iter().chain([&name]).map(|word| (line, word.clone())));
                    if !(call && path.len() == 2) {
                        self.references.push(Reference { line, within: within.to_vec(), path, name });
                    }
                }
                // A leading `::` is left to the next step.
                return end.max(at + 1);
            }
            TokenTree::Group(group) => self.scan(group.stream(), within),
            TokenTree::Literal(text) if text.to_string().contains('"') => self.words.push((line, text.to_string())),
            TokenTree::Ident(word) => self.words.push((line, word.to_string())),
            _ => {}
        }
        at + 1
    }
}
