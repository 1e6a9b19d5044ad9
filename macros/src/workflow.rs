//! `#[workflow]`: a function that returns steps.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Ident, ItemFn, LitStr, Token, ext::IdentExt as _, parse::ParseStream, parse::Parser as _};

/// The function, and its registration.
pub(crate) fn expand(args: TokenStream, item: TokenStream) -> TokenStream {
    let read = syn::parse2::<ItemFn>(item.clone())
        .map_err(|e| syn::Error::new(e.span(), "`#[workflow]` goes on a function"))
        .and_then(|function| fits(&function).map(|()| function));
    let read = read.and_then(|function| Ok((named.parse2(args)?, function)));
    match read {
        Ok((name, function)) => {
            let ident = &function.sig.ident;
            let name = name.unwrap_or_else(|| LitStr::new(&ident.unraw().to_string(), ident.span()));
            quote! {
                #function
                const _: () = {
                    ::mageflow::__private::inventory::submit! {
                        ::mageflow::__private::CollectedWorkflow(
                            || ::mageflow::__private::IntoWorkflow::into_workflow(#ident(), #name)
                        )
                    }
                };
            }
        }
        Err(e) => {
            let error = e.into_compile_error();
            quote!(#error #item)
        }
    }
}

fn fits(function: &ItemFn) -> syn::Result<()> {
    let sig = &function.sig;
    let wrong = |span: &dyn quote::ToTokens, reason: &str| Err(syn::Error::new_spanned(span.to_token_stream(), reason));
    if let Some(input) = sig.inputs.first() {
        return wrong(input, "a workflow's function takes nothing: its steps are the same for every run");
    }
    if let Some(word) = &sig.asyncness {
        return wrong(word, "a workflow's function is not `async`: it only lists steps");
    }
    if !sig.generics.params.is_empty() {
        return wrong(&sig.generics, "a workflow's function has no generics");
    }
    Ok(())
}

/// Nothing, or `name = ".."`.
fn named(input: ParseStream<'_>) -> syn::Result<Option<LitStr>> {
    if input.is_empty() {
        return Ok(None);
    }
    let key = input.call(Ident::parse_any)?;
    if key != "name" {
        return Err(syn::Error::new(key.span(), format!("unknown option `{key}`; the only one is `name`")));
    }
    input.parse::<Token![=]>()?;
    let name: LitStr = input.parse()?;
    match name.value().trim().is_empty() || !input.is_empty() {
        true => Err(syn::Error::new(name.span(), "`name` is a text that is not empty, and stands alone")),
        false => Ok(Some(name)),
    }
}
