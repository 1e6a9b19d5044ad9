use super::{
    MAX_DIGITS, MAX_INT_BYTES, PickleError,
    lines::{unescaped, unquoted},
    number::decimal,
};
use crate::wire::{
    error::Limits,
    text::{push_float, push_string},
};
use std::borrow::Cow;

type Result<T> = std::result::Result<T, PickleError>;

/// A value. Containers are shared by number, so a value that is referred to many times is kept once.
#[derive(Clone, Copy)]
enum Node<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// A text that had escapes.
    OwnText(u32),
    /// An integer beyond 64 bits, in decimal.
    Big(u32),
    List(u32),
    /// Keys and values in turn.
    Dict(u32),
}

/// The data of one pickle.
pub(crate) struct Pickled<'a> {
    nodes: Vec<Node<'a>>,
    children: Vec<Vec<u32>>,
    texts: Vec<String>,
    root: u32,
    limits: Limits,
}

/// How deep values in a place where depth is nobody's fault may go; see [`Pickled::fields`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deeper {
    Fails,
    IsNull,
}

impl<'a> Pickled<'a> {
    /// Reads a pickle of protocol 0 to 5.
    ///
    /// # Errors
    /// Anything that is not plain data, or goes beyond the limits.
    pub(crate) fn read(bytes: &'a [u8], limits: &Limits) -> Result<Self> {
        if bytes.len() > limits.bytes.min(u32::MAX as usize) {
            return Err(PickleError::TooLarge { limit: limits.bytes });
        }
        let data = Self { nodes: Vec::new(), children: Vec::new(), texts: Vec::new(), root: 0, limits: *limits };
        let mut machine =
            Machine { bytes, at: 0, data, stack: Vec::with_capacity(16), marks: Vec::new(), memo: Vec::new() };
        while machine.step()? {}
        machine.data.root = machine.pop()?;
        Ok(machine.data)
    }

    /// The whole as JSON text.
    ///
    /// # Errors
    /// If it is nested too deep, or grows too large since parts of it are repeated.
    pub(crate) fn to_json(&self) -> Result<String> {
        let mut out = String::new();
        self.write(self.root, &mut out, 0, Deeper::Fails)?;
        Ok(out)
    }

    /// The entries of a dictionary, each as its name and JSON text. In the entry `shallow`, what is nested too deep
    /// becomes null instead of making all unreadable: causes of an exception can go very deep.
    ///
    /// # Errors
    /// As [`to_json`](Self::to_json), and if it is not a dictionary.
    pub(crate) fn fields(&self, shallow: &str) -> Result<Vec<(Cow<'a, str>, String)>> {
        let Some(Node::Dict(entries)) = self.node(self.root) else { return Err(PickleError::NotDictionary) };
        let mut total = 0;
        let mut fields = Vec::with_capacity(8);
        for pair in self.children_of(*entries).chunks_exact(2) {
            let name = self.key(pair[0])?;
            let deeper = if name == shallow { Deeper::IsNull } else { Deeper::Fails };
            let mut json = String::new();
            self.write(pair[1], &mut json, 1, deeper)?;
            total += json.len();
            if total > self.limits.bytes {
                return Err(PickleError::TooLarge { limit: self.limits.bytes });
            }
            fields.push((name, json));
        }
        Ok(fields)
    }

    fn node(&self, index: u32) -> Option<&Node<'a>> {
        self.nodes.get(index as usize)
    }

    fn children_of(&self, list: u32) -> &[u32] {
        self.children.get(list as usize).map(Vec::as_slice).unwrap_or_default()
    }

    fn own_text(&self, index: u32) -> &str {
        self.texts.get(index as usize).map(String::as_str).unwrap_or_default()
    }

    fn write(&self, index: u32, out: &mut String, depth: usize, deeper: Deeper) -> Result<()> {
        match self.node(index) {
            None | Some(Node::Null) => out.push_str("null"),
            Some(Node::Bool(value)) => out.push_str(if *value { "true" } else { "false" }),
            Some(Node::Int(value)) => out.push_str(&value.to_string()),
            Some(Node::Float(value)) => push_float(out, *value),
            Some(Node::Text(text)) => push_string(out, text),
            Some(Node::OwnText(index)) => push_string(out, self.own_text(*index)),
            Some(Node::Big(index)) => out.push_str(self.own_text(*index)),
            Some(Node::Bytes(bytes)) => {
                push_string(out, std::str::from_utf8(bytes).map_err(|_| PickleError::NotText)?);
            }
            Some(Node::List(_) | Node::Dict(_)) if depth >= self.limits.depth => match deeper {
                Deeper::Fails => return Err(PickleError::TooDeep { limit: self.limits.depth }),
                Deeper::IsNull => out.push_str("null"),
            },
            Some(Node::List(children)) => {
                out.push('[');
                for (position, child) in self.children_of(*children).iter().enumerate() {
                    if position > 0 {
                        out.push(',');
                    }
                    self.write(*child, out, depth + 1, deeper)?;
                }
                out.push(']');
            }
            Some(Node::Dict(children)) => {
                out.push('{');
                for (position, pair) in self.children_of(*children).chunks_exact(2).enumerate() {
                    if position > 0 {
                        out.push(',');
                    }
                    push_string(out, &self.key(pair[0])?);
                    out.push(':');
                    self.write(pair[1], out, depth + 1, deeper)?;
                }
                out.push('}');
            }
        }
        // Each value adds at least a byte, so this bounds the work as well.
        if out.len() > self.limits.bytes {
            return Err(PickleError::TooLarge { limit: self.limits.bytes });
        }
        Ok(())
    }

    /// A key as Python's JSON writes it.
    fn key(&self, index: u32) -> Result<Cow<'a, str>> {
        Ok(match self.node(index) {
            Some(Node::Text(text)) => Cow::Borrowed(text),
            Some(Node::OwnText(index) | Node::Big(index)) => Cow::Owned(self.own_text(*index).to_owned()),
            Some(Node::Int(value)) => Cow::Owned(value.to_string()),
            Some(Node::Bool(value)) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Some(Node::Float(value)) if value.is_finite() => Cow::Owned(format!("{value:?}")),
            Some(Node::Null) => Cow::Borrowed("null"),
            _ => return Err(PickleError::Key),
        })
    }
}

const FREE: u32 = u32::MAX;

/// Carries out the instructions of a pickle that make plain data.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    data: Pickled<'a>,
    stack: Vec<u32>,
    marks: Vec<usize>,
    /// By place; [`FREE`] where nothing is remembered.
    memo: Vec<u32>,
}

impl<'a> Machine<'a> {
    /// Carries out one instruction. `false` at the last one.
    fn step(&mut self) -> Result<bool> {
        let at = self.at;
        let code = self.byte()?;
        match code {
            b'.' => return Ok(false),
            b'N' => self.push(Node::Null)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'K' => self.unsigned(1)?,
            b'M' => self.unsigned(2)?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(value.into()))?;
            }
            b'I' | b'L' | b'F' => self.number_line(code)?,
            0x8a => self.integer(1)?,
            0x8b => self.integer(4)?,
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Node::Float(value))?;
            }
            0x8c => self.text(1)?,
            b'X' | b'T' => self.text(4)?,
            b'U' => self.text(1)?,
            0x8d => self.text(8)?,
            b'V' | b'S' => self.text_line(code)?,
            b'C' => self.byte_string(1)?,
            b'B' => self.byte_string(4)?,
            0x8e | 0x96 => self.byte_string(8)?,
            b']' | b')' | 0x8f => self.push_list(Vec::new())?,
            b'}' => self.push_dict(Vec::new())?,
            b'(' => {
                self.marks.push(self.stack.len());
                self.check_count(self.marks.len())?;
            }
            b'l' | b't' | 0x91 => {
                let items = self.since_mark()?;
                self.push_list(items)?;
            }
            b'd' => {
                let entries = self.entries()?;
                self.push_dict(entries)?;
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(code - 0x84))?;
                self.push_list(items)?;
            }
            b'a' | b'e' | 0x90 => self.append(code == b'a')?,
            b's' | b'u' => self.set_items(code == b's')?,
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                self.check_count(self.stack.len())?;
            }
            b'p' | b'q' | b'r' | 0x94 => self.remember(code)?,
            b'g' | b'h' | b'j' => self.recall(code)?,
            0x80 => self.protocol()?,
            0x95 => drop(self.take(8)?),
            _ => return Err(self.refuse(code, at)),
        }
        Ok(true)
    }

    /// What an instruction that is not carried out would have needed.
    fn refuse(&mut self, code: u8, at: usize) -> PickleError {
        match code {
            b'c' | b'i' => match (self.line(), self.line()) {
                (Ok(module), Ok(name)) => PickleError::Class { name: class_name(module, name) },
                _ => PickleError::Truncated,
            },
            0x93 => {
                let mut part = || self.pop().ok().and_then(|index| self.data.key(index).ok().map(Cow::into_owned));
                let (name, module) = (part().unwrap_or_default(), part().unwrap_or_default());
                PickleError::Class { name: class_name(module.as_bytes(), name.as_bytes()) }
            }
            // Without a class on the stack these are malformed; with one, it was refused before.
            b'R' | b'b' | b'o' | 0x81 | 0x92 => PickleError::Malformed { what: "it makes an object of no class" },
            0x82..=0x84 => PickleError::Outside { what: "a registered class" },
            b'P' | b'Q' => PickleError::Outside { what: "a persistent object" },
            0x97 | 0x98 => PickleError::Outside { what: "a buffer" },
            _ => PickleError::UnknownOpcode { code, at },
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or(PickleError::Truncated)?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| PickleError::Truncated)
    }

    /// An unsigned number of `width` bytes.
    fn uint(&mut self, width: usize) -> Result<u64> {
        let mut all = [0; 8];
        all[..width].copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(all))
    }

    /// Bytes whose number comes before them in `width` bytes.
    fn counted(&mut self, width: usize) -> Result<&'a [u8]> {
        let count = usize::try_from(self.uint(width)?).map_err(|_| PickleError::Truncated)?;
        self.take(count)
    }

    fn line(&mut self) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or(PickleError::Truncated)?;
        self.at += end + 1;
        let line = &rest[..end];
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn check_count(&self, count: usize) -> Result<()> {
        let limit = self.data.limits.values;
        if count > limit { Err(PickleError::TooManyValues { limit }) } else { Ok(()) }
    }

    fn push(&mut self, node: Node<'a>) -> Result<()> {
        self.check_count(self.data.nodes.len() + 1)?;
        self.stack.push(index(self.data.nodes.len())?);
        self.data.nodes.push(node);
        Ok(())
    }

    fn push_list(&mut self, items: Vec<u32>) -> Result<()> {
        let list = index(self.data.children.len())?;
        self.data.children.push(items);
        self.push(Node::List(list))
    }

    fn push_dict(&mut self, entries: Vec<u32>) -> Result<()> {
        let dict = index(self.data.children.len())?;
        self.data.children.push(entries);
        self.push(Node::Dict(dict))
    }

    fn push_own(&mut self, text: String, node: impl FnOnce(u32) -> Node<'a>) -> Result<()> {
        let own = index(self.data.texts.len())?;
        self.data.texts.push(text);
        self.push(node(own))
    }

    /// The lowest place on the stack that the current mark leaves free.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or_default()
    }

    fn pop(&mut self) -> Result<u32> {
        if self.stack.len() <= self.floor() {
            return Err(PickleError::Malformed { what: "it takes more than it has" });
        }
        self.stack.pop().ok_or(PickleError::Truncated)
    }

    fn top(&self) -> Result<u32> {
        match self.stack.last() {
            Some(top) if self.stack.len() > self.floor() => Ok(*top),
            _ => Err(PickleError::Malformed { what: "it uses what it does not have" }),
        }
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<u32>> {
        let from = self.stack.len().checked_sub(count).filter(|from| *from >= self.floor());
        match from {
            Some(from) => Ok(self.stack.split_off(from)),
            None => Err(PickleError::Malformed { what: "it takes more than it has" }),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<u32>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => Err(PickleError::Malformed { what: "a mark is missing" }),
        }
    }

    /// Keys and values since the mark.
    fn entries(&mut self) -> Result<Vec<u32>> {
        let entries = self.since_mark()?;
        if entries.len().is_multiple_of(2) {
            return Ok(entries);
        }
        Err(PickleError::Malformed { what: "a key has no value" })
    }

    fn append(&mut self, one: bool) -> Result<()> {
        let items = if one { vec![self.pop()?] } else { self.since_mark()? };
        let top = self.top()?;
        match self.data.node(top) {
            Some(Node::List(list)) => self.extend(*list, &items),
            _ => Err(PickleError::Malformed { what: "it appends to what is no list" }),
        }
    }

    fn set_items(&mut self, one: bool) -> Result<()> {
        let entries = if one { self.pop_many(2)? } else { self.entries()? };
        let top = self.top()?;
        match self.data.node(top) {
            Some(Node::Dict(dict)) => self.extend(*dict, &entries),
            _ => Err(PickleError::Malformed { what: "it sets a key of what is no dictionary" }),
        }
    }

    fn extend(&mut self, list: u32, items: &[u32]) -> Result<()> {
        if let Some(children) = self.data.children.get_mut(list as usize) {
            children.extend_from_slice(items);
        }
        Ok(())
    }

    fn remember(&mut self, code: u8) -> Result<()> {
        let place = match code {
            b'p' => self.index_line()?,
            b'q' => self.uint(1)?,
            b'r' => self.uint(4)?,
            _ => self.memo.len() as u64,
        };
        // Places are numbered without gaps, and each needs some bytes.
        let most = self.bytes.len().min(self.data.limits.values);
        let place = usize::try_from(place).ok().filter(|place| *place <= most);
        let place = place.ok_or(PickleError::Malformed { what: "it remembers something under a huge number" })?;
        let top = self.top()?;
        if self.memo.len() <= place {
            self.memo.resize(place + 1, FREE);
        }
        self.memo[place] = top;
        Ok(())
    }

    fn recall(&mut self, code: u8) -> Result<()> {
        let place = match code {
            b'g' => self.index_line()?,
            b'h' => self.uint(1)?,
            _ => self.uint(4)?,
        };
        let known = usize::try_from(place).ok().and_then(|place| self.memo.get(place).copied());
        let known = known.filter(|known| *known != FREE);
        self.stack.push(known.ok_or(PickleError::Malformed { what: "it recalls what it has not remembered" })?);
        self.check_count(self.stack.len())
    }

    fn index_line(&mut self) -> Result<u64> {
        let line = std::str::from_utf8(self.line()?).ok();
        line.and_then(|line| line.parse().ok()).ok_or(PickleError::Malformed { what: "a number is expected" })
    }

    fn protocol(&mut self) -> Result<()> {
        match self.byte()? {
            0..=5 => Ok(()),
            _ => Err(PickleError::Malformed { what: "its protocol is newer than 5" }),
        }
    }

    fn unsigned(&mut self, width: usize) -> Result<()> {
        let value = self.uint(width)?;
        self.push(Node::Int(value.cast_signed()))
    }

    /// An integer of any size, in two's complement.
    fn integer(&mut self, width: usize) -> Result<()> {
        let bytes = self.counted(width)?;
        if bytes.len() > MAX_INT_BYTES {
            return Err(PickleError::HugeNumber);
        }
        let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        if bytes.len() <= 8 {
            let mut all = [if negative { 0xff } else { 0 }; 8];
            all[..bytes.len()].copy_from_slice(bytes);
            return self.push(Node::Int(i64::from_le_bytes(all)));
        }
        self.push_own(decimal(bytes, negative), Node::Big)
    }

    /// A number in decimal, up to the end of the line.
    fn number_line(&mut self, code: u8) -> Result<()> {
        let line = self.line()?;
        let bad = PickleError::Malformed { what: "a number is expected" };
        let text = std::str::from_utf8(line).map_err(|_| bad.clone())?.trim_ascii();
        match (code, text) {
            (b'I', "00") => return self.push(Node::Bool(false)),
            (b'I', "01") => return self.push(Node::Bool(true)),
            (b'F', _) => return self.push(Node::Float(text.parse().map_err(|_| bad)?)),
            _ => {}
        }
        let text = text.strip_suffix('L').unwrap_or(text);
        if let Ok(value) = text.parse() {
            return self.push(Node::Int(value));
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.len() > MAX_DIGITS {
            return Err(PickleError::HugeNumber);
        }
        let significant = digits.trim_start_matches('0');
        if significant.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(bad);
        }
        let sign = if digits.len() < text.len() { "-" } else { "" };
        self.push_own(format!("{sign}{significant}"), Node::Big)
    }

    fn text(&mut self, width: usize) -> Result<()> {
        let bytes = self.counted(width)?;
        let text = std::str::from_utf8(bytes).map_err(|_| PickleError::NotText)?;
        self.push(Node::Text(text))
    }

    /// A text up to the end of the line, with escapes.
    fn text_line(&mut self, code: u8) -> Result<()> {
        let line = self.line()?;
        let text = if code == b'V' { unescaped(line) } else { unquoted(line) };
        self.push_own(text.ok_or(PickleError::NotText)?, Node::OwnText)
    }

    fn byte_string(&mut self, width: usize) -> Result<()> {
        let bytes = self.counted(width)?;
        self.push(Node::Bytes(bytes))
    }
}

fn index(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_| PickleError::TooLarge { limit: u32::MAX as usize })
}

/// `module.name`, short and printable whatever it was.
fn class_name(module: &[u8], name: &[u8]) -> String {
    let part = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .chars()
            .take(80)
            .map(|c| if c.is_control() { '?' } else { c })
            .collect::<String>()
    };
    match (part(module), part(name)) {
        (module, name) if module.is_empty() => name,
        (module, name) => format!("{module}.{name}"),
    }
}
