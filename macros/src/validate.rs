//! What a task must be. Everything that a user can get wrong in a signature is reported here, at the culprit.

use crate::{
    options::Options,
    parse::{Companions, Function, is_parameter_attribute},
};
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{
    Attribute, Expr, FnArg, GenericArgument, Ident, Meta, Pat, PatType, PathArguments, ReturnType, Safety, Type,
    ext::IdentExt as _, spanned::Spanned as _,
};

/// serde encodes tuples of up to 16; more than this many parameters are a struct in disguise anyway.
const MOST_ARGUMENTS: usize = 12;

/// A function that can be a task.
pub(crate) struct Task {
    /// As it was written, without the attributes that were understood.
    pub(crate) function: Function,
    pub(crate) options: Options,
    pub(crate) run: Run,
    pub(crate) inputs: Vec<Input>,
    pub(crate) output: Output,
}

/// How the body runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    Async,
    Inline,
    Blocking,
}

/// One parameter of the function.
pub(crate) struct Input {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    pub(crate) role: Role,
}

/// What a parameter is filled with.
pub(crate) enum Role {
    Argument { default: Fallback, return_value: bool },
    Context,
    Signature,
}

/// What an argument is when the caller leaves it out.
pub(crate) enum Fallback {
    /// Nothing: the call is invalid, unless the type itself stands for absence.
    None,
    /// `#[default]`.
    OfType(Span),
    /// `#[default = expr]`.
    Value(Box<Expr>),
}

/// What the function returns.
pub(crate) enum Output {
    Unit,
    Plain(Type),
    Result(Type),
}

/// Judges a function.
pub(crate) fn task(mut function: Function, mut options: Options) -> syn::Result<Task> {
    let companions = Companions::take(&mut function.attrs)?;
    check_signature(&function)?;
    if let Some((window, span)) = companions.stagger
        && options.stagger.replace(window).is_some()
    {
        return Err(syn::Error::new(span, "the time of staggering is given twice: here and as the option `stagger`"));
    }
    let run = match (&function.sig.asyncness, options.blocking) {
        (Some(_), Some(span)) => {
            return Err(syn::Error::new(span, "`blocking` is for a plain `fn`; an `async fn` must not block"));
        }
        (Some(_), None) => Run::Async,
        (None, Some(_)) => Run::Blocking,
        (None, None) => Run::Inline,
    };
    let mut inputs = Vec::new();
    for input in &mut function.sig.inputs {
        inputs.push(input_of(input, &companions)?);
    }
    check_injected(&inputs, &companions)?;
    check_arguments(&inputs, &options)?;
    let output = output_of(&function.sig.output)?;
    Ok(Task { function, options, run, inputs, output })
}

fn check_signature(function: &Function) -> syn::Result<()> {
    let sig = &function.sig;
    let refuse = |span: Span, reason: &str| Err(syn::Error::new(span, reason));
    if function.body.to_string() == ";" {
        return refuse(sig.ident.span(), "a task needs a body");
    }
    if let Some(token) = &sig.constness {
        return refuse(token.span(), "a task cannot be a `const fn`");
    }
    if let Safety::Unsafe(token) = &sig.safety {
        return refuse(token.span(), "a task cannot be `unsafe`: it is called from wherever its message comes from");
    }
    if let Some(abi) = &sig.abi {
        return refuse(abi.span(), "a task cannot be `extern`");
    }
    if let Some(variadic) = &sig.variadic {
        return refuse(variadic.span(), "a task cannot be variadic");
    }
    if !sig.generics.params.is_empty() {
        let reason = "a task cannot be generic: a message names one task with one kind of input";
        return refuse(sig.generics.params.span(), reason);
    }
    match &sig.generics.where_clause {
        Some(clause) => refuse(clause.span(), "a task cannot have a `where` clause"),
        None => Ok(()),
    }
}

fn input_of(input: &mut FnArg, companions: &Companions) -> syn::Result<Input> {
    let typed = match input {
        FnArg::Receiver(receiver) => {
            let reason = "a task cannot take `self`: there is no value in the worker to call it on; \
                          share values with `.state(..)` and take a `TaskContext`";
            return Err(syn::Error::new(receiver.self_token.span(), reason));
        }
        FnArg::Typed(typed) => typed,
    };
    let ident = name_of(&typed.pat)?;
    check_owned(&typed.ty)?;
    let marks = Marks::take(typed)?;
    let role = if is_named(&typed.ty, "TaskContext") {
        if companions.with_ctx.is_none() {
            let reason = "add `#[with_ctx]` to the function to be given the context";
            return Err(syn::Error::new(typed.ty.span(), reason));
        }
        marks.refuse("the context")?;
        Role::Context
    } else if companions.with_signature.is_some() && is_signature(&typed.ty) {
        marks.refuse("the signature's key")?;
        Role::Signature
    } else {
        Role::Argument { default: marks.default, return_value: marks.return_value.is_some() }
    };
    Ok(Input { ident, ty: (*typed.ty).clone(), role })
}

fn name_of(pat: &Pat) -> syn::Result<Ident> {
    match pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => Ok(pat.ident.clone()),
        _ => {
            let reason = "a parameter of a task is a plain name: callers may give it by that name";
            Err(syn::Error::new(pat.span(), reason))
        }
    }
}

/// Refuses what borrows, and what is not one type.
fn check_owned(ty: &Type) -> syn::Result<()> {
    if matches!(peeled(ty), Type::ImplTrait(_)) {
        let reason = "`impl Trait` is not a type that a message can be decoded into; name one";
        return Err(syn::Error::new(ty.span(), reason));
    }
    if let Some(span) = borrowed(ty.to_token_stream()) {
        let reason = match is_named(ty, "TaskContext") {
            true => "take the `TaskContext` by value; it is a cheap handle",
            false => "a task owns what it is given; use an owned type such as `String` or `Vec<u8>`",
        };
        return Err(syn::Error::new(span, reason));
    }
    Ok(())
}

/// Where a type borrows: a `&`, or a lifetime other than `'static`.
fn borrowed(tokens: TokenStream) -> Option<Span> {
    let mut quote = false;
    for token in tokens {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '&' => return Some(punct.span()),
            TokenTree::Punct(punct) if punct.as_char() == '\'' => quote = true,
            TokenTree::Ident(name) if std::mem::take(&mut quote) && name != "static" => return Some(name.span()),
            TokenTree::Group(group) => {
                if let Some(span) = borrowed(group.stream()) {
                    return Some(span);
                }
            }
            _ => {}
        }
    }
    None
}

/// The attributes of a parameter that mean something to `#[task]`.
struct Marks {
    default: Fallback,
    return_value: Option<Span>,
    any: Option<Span>,
}

impl Marks {
    fn take(typed: &mut PatType) -> syn::Result<Self> {
        let mut marks = Self { default: Fallback::None, return_value: None, any: None };
        for attr in &typed.attrs {
            if attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr") {
                let reason = "the parameters of a task are the same in every build, or messages would not fit";
                return Err(syn::Error::new(attr.span(), reason));
            }
            if is_parameter_attribute(attr) {
                marks.set(attr)?;
            }
        }
        typed.attrs.retain(|attr| !is_parameter_attribute(attr));
        Ok(marks)
    }

    fn set(&mut self, attr: &Attribute) -> syn::Result<()> {
        let span = attr.path().span();
        self.any = Some(span);
        let twice = match &attr.meta {
            Meta::Path(path) if path.is_ident("return_value") => self.return_value.replace(span).is_some(),
            meta if meta.path().is_ident("return_value") => {
                return Err(syn::Error::new(meta.span(), "`#[return_value]` takes no arguments"));
            }
            Meta::List(list) => {
                return Err(syn::Error::new(list.span(), "write `#[default]` or `#[default = value]`"));
            }
            Meta::Path(_) => !matches!(std::mem::replace(&mut self.default, Fallback::OfType(span)), Fallback::None),
            Meta::NameValue(pair) => {
                let value = Fallback::Value(Box::new(pair.value.clone()));
                !matches!(std::mem::replace(&mut self.default, value), Fallback::None)
            }
        };
        match twice {
            true => Err(syn::Error::new(span, "this attribute is given twice")),
            false => Ok(()),
        }
    }

    fn refuse(&self, what: &str) -> syn::Result<()> {
        match self.any {
            Some(span) => Err(syn::Error::new(span, format!("{what} is not an argument: callers do not give it"))),
            None => Ok(()),
        }
    }
}

/// Without the invisible group that a `$ty:ty` of `macro_rules!` is wrapped in.
fn peeled(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peeled(&group.elem),
        ty => ty,
    }
}

/// Whether the last segment of a type's path is `name`; looks through a reference.
pub(crate) fn is_named(ty: &Type, name: &str) -> bool {
    match peeled(ty) {
        Type::Path(path) => path.path.segments.last().is_some_and(|segment| segment.ident == name),
        Type::Reference(reference) => is_named(&reference.elem, name),
        _ => false,
    }
}

/// `SignatureKey` or `Option<SignatureKey>`.
fn is_signature(ty: &Type) -> bool {
    let Type::Path(path) = peeled(ty) else { return false };
    let Some(segment) = path.path.segments.last() else { return false };
    match &segment.arguments {
        PathArguments::AngleBracketed(args) if segment.ident == "Option" => {
            matches!(args.args.first(), Some(GenericArgument::Type(inner)) if is_named(inner, "SignatureKey"))
        }
        _ => segment.ident == "SignatureKey",
    }
}

fn check_injected(inputs: &[Input], companions: &Companions) -> syn::Result<()> {
    let taken_by = |wanted: fn(&Role) -> bool| inputs.iter().filter(|input| wanted(&input.role)).collect::<Vec<_>>();
    let contexts = taken_by(|role| matches!(role, Role::Context));
    let signatures = taken_by(|role| matches!(role, Role::Signature));
    let fail = |span, reason| Err(syn::Error::new(span, reason));
    match (companions.with_ctx, &contexts[..]) {
        (Some(span), []) => {
            return fail(
                span,
                "`#[with_ctx]` gives the task its context, but no parameter takes it; add `ctx: TaskContext`",
            );
        }
        (_, [_, second, ..]) => {
            return fail(second.ty.span(), "one parameter takes the context; clone it where it is needed twice");
        }
        _ => {}
    }
    match (companions.with_signature, &signatures[..]) {
        (Some(span), []) => fail(
            span,
            "`#[with_signature]` gives the task the key of its signature, but no parameter takes it; \
             add `key: SignatureKey`, or `key: Option<SignatureKey>` for runs that are not signed",
        ),
        (_, [_, second, ..]) => {
            fail(second.ty.span(), "one parameter takes the signature's key; which of these is it?")
        }
        _ => Ok(()),
    }
}

fn check_arguments(inputs: &[Input], options: &Options) -> syn::Result<()> {
    let mut arguments = 0;
    let mut marked = false;
    for input in inputs {
        let Role::Argument { return_value, .. } = &input.role else { continue };
        arguments += 1;
        if arguments > MOST_ARGUMENTS {
            let reason = format!("a task takes at most {MOST_ARGUMENTS} arguments; put them into a struct");
            return Err(syn::Error::new(input.ident.span(), reason));
        }
        if *return_value && std::mem::replace(&mut marked, true) {
            let reason = "only one parameter takes the result of the previous step";
            return Err(syn::Error::new(input.ident.span(), reason));
        }
    }
    match &options.return_field {
        Some(field) if arguments != 1 => {
            let reason = "`return_field` names a field of the task's one message; \
                          with several parameters, mark one of them with `#[return_value]`";
            Err(syn::Error::new(field.span(), reason))
        }
        Some(field) if marked => {
            let reason = "the result of the previous step goes into a field or into the whole parameter, not both; \
                          remove `return_field` or `#[return_value]`";
            Err(syn::Error::new(field.span(), reason))
        }
        _ => Ok(()),
    }
}

fn output_of(output: &ReturnType) -> syn::Result<Output> {
    let ReturnType::Type(_, ty) = output else { return Ok(Output::Unit) };
    let ty = &**ty;
    if matches!(peeled(ty), Type::ImplTrait(_)) {
        let reason = "a task returns one type that its caller can name; write it out";
        return Err(syn::Error::new(ty.span(), reason));
    }
    if let Some(span) = borrowed(ty.to_token_stream()) {
        let reason = "what a task returns is sent away; use an owned type such as `String`";
        return Err(syn::Error::new(span, reason));
    }
    Ok(match looks_like_result(ty) {
        true => Output::Result(ty.clone()),
        false => Output::Plain(ty.clone()),
    })
}

/// `Result`, however it is written, or an alias of it whose name says so: `PgResult<T>`. A `TaskResult` without type
/// arguments is data.
fn looks_like_result(ty: &Type) -> bool {
    let Type::Path(path) = peeled(ty) else { return false };
    let Some(segment) = path.path.segments.last() else { return false };
    let name = segment.ident.unraw().to_string();
    name == "Result" || (name.ends_with("Result") && !segment.arguments.is_none())
}
