//! The attribute macros of mageflow. Use them through the `mageflow` crate, which re-exports them.
//!
//! `parse` reads, `validate` judges, `emit` writes; `options` and `duration` are the language between the parentheses.

mod companion;
mod duration;
mod emit;
mod options;
mod parse;
mod suggest;
mod validate;

use options::Options;
use parse::{Companion, Function};
use proc_macro::TokenStream;
use quote::quote;

/// DOC
#[proc_macro_attribute]
pub fn task(args: TokenStream, item: TokenStream) -> TokenStream {
    expand(args, item, false)
}

/// DOC
#[proc_macro_attribute]
pub fn durable_task(args: TokenStream, item: TokenStream) -> TokenStream {
    expand(args, item, true)
}

/// DOC
#[proc_macro_attribute]
pub fn with_ctx(args: TokenStream, item: TokenStream) -> TokenStream {
    companion::expand(Companion::WithCtx, &args.into(), item.into()).into()
}

/// DOC
#[proc_macro_attribute]
pub fn with_signature(args: TokenStream, item: TokenStream) -> TokenStream {
    companion::expand(Companion::WithSignature, &args.into(), item.into()).into()
}

/// DOC
#[proc_macro_attribute]
pub fn stagger_execution(args: TokenStream, item: TokenStream) -> TokenStream {
    companion::expand(Companion::StaggerExecution, &args.into(), item.into()).into()
}

fn expand(args: TokenStream, item: TokenStream, durable: bool) -> TokenStream {
    let function = match syn::parse::<Function>(item.clone()) {
        Ok(function) => function,
        Err(e) => {
            let (error, item) = (e.into_compile_error(), parse::plain_item(item.into()));
            return quote!(#error #item).into();
        }
    };
    let task = syn::parse::<Options>(args).and_then(|mut options| {
        options.durable |= durable;
        validate::task(function.clone(), options)
    });
    match task {
        Ok(task) => emit::task(&task).into(),
        Err(e) => {
            // The function stays, so that its uses do not add errors of their own.
            let (error, function) = (e.into_compile_error(), function.plain());
            quote!(#error #function).into()
        }
    }
}
