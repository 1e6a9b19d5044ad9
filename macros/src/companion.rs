//! `#[with_ctx]` and the like where they stand above `#[task]` and are therefore expanded first: they move below it,
//! where `#[task]` reads them.

use crate::parse::{Companion, is_task};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Attribute,
    parse::{ParseStream, Parser as _},
};

/// The item with the companion moved below its `#[task]`.
pub(crate) fn expand(companion: Companion, args: &TokenStream, item: TokenStream) -> TokenStream {
    let read = |input: ParseStream<'_>| Ok((input.call(Attribute::parse_outer)?, input.parse::<TokenStream>()?));
    match read.parse2(item.clone()) {
        Ok((mut attrs, rest)) => match attrs.iter().position(is_task) {
            Some(task) => {
                attrs.insert(task + 1, restated(companion, args));
                quote!(#(#attrs)* #rest)
            }
            None => alone(companion, &item),
        },
        Err(e) => {
            let error = e.into_compile_error();
            quote!(#error #item)
        }
    }
}

/// The companion itself again, in the place where the user wrote it.
fn restated(companion: Companion, args: &TokenStream) -> Attribute {
    let span = Span::call_site();
    let name = Ident::new(companion.name(), span);
    match args.is_empty() {
        true => syn::parse_quote_spanned!(span=> #[::mageflow::#name]),
        false => syn::parse_quote_spanned!(span=> #[::mageflow::#name(#args)]),
    }
}

fn alone(companion: Companion, item: &TokenStream) -> TokenStream {
    let name = companion.name();
    let reason = format!("`#[{name}]` does nothing alone; it belongs to a function with `#[mageflow::task]`");
    quote_spanned!(Span::call_site()=> ::core::compile_error!(#reason); #item)
}
