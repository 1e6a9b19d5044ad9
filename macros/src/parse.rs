//! What stands in the source: a function, its attributes and the companions among them. Nothing is judged here beyond
//! what is needed to read it.

use crate::duration;
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use std::time::Duration;
use syn::{
    Attribute, FnArg, LitStr, Meta, Path, Signature, Token, Visibility,
    parse::{Parse, ParseStream, Parser as _},
    spanned::Spanned as _,
};

/// A function. Its body is kept as tokens: it is the compiler's business.
#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) body: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis: Visibility = input.parse()?;
        if !starts_function(input) {
            return Err(input.error("`#[task]` goes on a function"));
        }
        Ok(Self { attrs, vis, sig: input.parse()?, body: input.parse()? })
    }
}

fn starts_function(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    while ahead.peek(Token![const])
        || ahead.peek(Token![async])
        || ahead.peek(Token![unsafe])
        || ahead.peek(Token![extern])
        || ahead.peek(LitStr)
    {
        if ahead.parse::<proc_macro2::TokenTree>().is_err() {
            return false;
        }
    }
    ahead.peek(Token![fn])
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { attrs, vis, sig, body } = self;
        tokens.extend(quote!(#(#attrs)* #vis #sig #body));
    }
}

impl Function {
    /// The function without anything that only `#[task]` understands: what is left of it beside an error, so that
    /// the error does not bring others with it.
    pub(crate) fn plain(mut self) -> Self {
        self.attrs.retain(|attr| companion(attr.path()).is_none());
        for input in &mut self.sig.inputs {
            if let FnArg::Typed(typed) = input {
                typed.attrs.retain(|attr| !is_parameter_attribute(attr));
            }
        }
        self
    }
}

/// Any item without companions, for the same reason.
pub(crate) fn plain_item(item: TokenStream) -> TokenStream {
    let read = |input: ParseStream<'_>| Ok((input.call(Attribute::parse_outer)?, input.parse::<TokenStream>()?));
    match read.parse2(item.clone()) {
        Ok((mut attrs, rest)) => {
            attrs.retain(|attr| companion(attr.path()).is_none());
            quote!(#(#attrs)* #rest)
        }
        Err(_) => item,
    }
}

/// An attribute that says more about a task, above or below `#[task]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Companion {
    WithCtx,
    WithSignature,
    StaggerExecution,
}

impl Companion {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WithCtx => "with_ctx",
            Self::WithSignature => "with_signature",
            Self::StaggerExecution => "stagger_execution",
        }
    }
}

fn companion(path: &Path) -> Option<Companion> {
    let name = &path.segments.last()?.ident;
    [Companion::WithCtx, Companion::WithSignature, Companion::StaggerExecution].into_iter().find(|c| name == c.name())
}

/// Whether this is `#[task]` or `#[durable_task]`, however it is imported.
pub(crate) fn is_task(attr: &Attribute) -> bool {
    attr.path().segments.last().is_some_and(|segment| segment.ident == "task" || segment.ident == "durable_task")
}

/// Whether `#[task]` gives this attribute of a parameter a meaning.
pub(crate) fn is_parameter_attribute(attr: &Attribute) -> bool {
    attr.path().is_ident("default") || attr.path().is_ident("return_value")
}

/// The companions of one task.
#[derive(Default)]
pub(crate) struct Companions {
    pub(crate) with_ctx: Option<Span>,
    pub(crate) with_signature: Option<Span>,
    pub(crate) stagger: Option<(Duration, Span)>,
}

impl Companions {
    /// Takes them out of a function's attributes.
    pub(crate) fn take(attrs: &mut Vec<Attribute>) -> syn::Result<Self> {
        let mut companions = Self::default();
        let mut result = Ok(());
        attrs.retain(|attr| {
            let Some(companion) = companion(attr.path()) else { return true };
            if let (Ok(()), Err(e)) = (&result, companions.set(companion, attr)) {
                result = Err(e);
            }
            false
        });
        result.map(|()| companions)
    }

    fn set(&mut self, companion: Companion, attr: &Attribute) -> syn::Result<()> {
        let name = companion.name();
        let span = attr.path().span();
        let twice = match companion {
            Companion::WithCtx => self.with_ctx.replace(span).is_some(),
            Companion::WithSignature => self.with_signature.replace(span).is_some(),
            Companion::StaggerExecution => self.stagger.replace((window(attr)?, span)).is_some(),
        };
        if twice {
            return Err(syn::Error::new(span, format!("`#[{name}]` is given twice")));
        }
        match (companion, &attr.meta) {
            (Companion::StaggerExecution, _) | (_, Meta::Path(_)) => Ok(()),
            (_, meta) => Err(syn::Error::new(meta.span(), format!("`#[{name}]` takes no arguments"))),
        }
    }
}

/// `"10s"` of `#[stagger_execution("10s")]`.
fn window(attr: &Attribute) -> syn::Result<Duration> {
    let usage = r#"write `#[stagger_execution("10s")]`: the time over which starts are spread"#;
    let Meta::List(list) = &attr.meta else { return Err(syn::Error::new(attr.meta.span(), usage)) };
    let literal: LitStr = list.parse_args().map_err(|e| syn::Error::new(e.span(), usage))?;
    duration::parse(&literal)
}
