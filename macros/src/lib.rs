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
mod workflow;

use options::Options;
use parse::{Companion, Function};
use proc_macro::TokenStream;
use quote::quote;

#[doc = include_str!("../docs/task.md")]
#[proc_macro_attribute]
pub fn task(args: TokenStream, item: TokenStream) -> TokenStream {
    expand(args, item, false)
}

/// Makes a durable task of a function: [`task`](macro@task) with the option `durable`, and with the same options
/// otherwise.
///
/// What a durable task creates is recognised when the task is retried: signatures that it signed and items that it added
/// to a swarm are there once, not once for each attempt.
///
/// ```
/// use mageflow::{Task, TaskContext, TaskError};
///
/// #[mageflow::durable_task(retries = 2)]
/// #[mageflow::with_ctx]
/// async fn import(file: String, ctx: TaskContext) -> Result<(), TaskError> {
///     ctx.log(format!("importing {file}"));
///     Ok(())
/// }
/// assert!(import.registered().definition.options.durable);
/// ```
#[proc_macro_attribute]
pub fn durable_task(args: TokenStream, item: TokenStream) -> TokenStream {
    expand(args, item, true)
}

/// Gives a task the context of its run: the one parameter of type `TaskContext`, at any place.
///
/// Stands above or below [`#[task]`](macro@task). Takes no arguments.
///
/// ```
/// use mageflow::{Task, TaskContext};
///
/// #[mageflow::task]
/// #[mageflow::with_ctx]
/// async fn report(title: String, ctx: TaskContext) -> u32 {
///     ctx.log(format!("writing {title}"));
///     ctx.execution_info().attempt_number
/// }
/// // Callers do not give it.
/// assert_eq!(report.registered().definition.parameters.len(), 1);
/// ```
#[proc_macro_attribute]
pub fn with_ctx(args: TokenStream, item: TokenStream) -> TokenStream {
    companion::expand(Companion::WithCtx, &args.into(), item.into()).into()
}

/// Gives a task the key of the signature that runs: the one parameter of type `SignatureKey` or `Option<SignatureKey>`,
/// at any place.
///
/// A run that is not signed has no key. It gives `None` to an `Option`, and fails for good without one.
///
/// Stands above or below [`#[task]`](macro@task). Takes no arguments.
///
/// ```
/// use mageflow::{SignatureKey, Task};
///
/// #[mageflow::task]
/// #[mageflow::with_signature]
/// async fn audit(line: String, key: Option<SignatureKey>) -> String {
///     format!("{line} {key:?}")
/// }
/// assert_eq!(audit.registered().definition.parameters.len(), 1);
/// ```
#[proc_macro_attribute]
pub fn with_signature(args: TokenStream, item: TokenStream) -> TokenStream {
    companion::expand(Companion::WithSignature, &args.into(), item.into()).into()
}

/// Spreads the starts of a task: each attempt first waits for a random time within the window. The same as the option
/// `stagger` of [`task`](macro@task).
///
/// Stands above or below [`#[task]`](macro@task).
///
/// ```
/// use mageflow::Task;
/// use std::time::Duration;
///
/// #[mageflow::task]
/// #[mageflow::stagger_execution("1m30s")]
/// async fn poll() {}
///
/// assert_eq!(poll.registered().definition.options.stagger, Some(Duration::from_secs(90)));
/// ```
#[proc_macro_attribute]
pub fn stagger_execution(args: TokenStream, item: TokenStream) -> TokenStream {
    companion::expand(Companion::StaggerExecution, &args.into(), item.into()).into()
}

/// Registers the workflow whose steps a function returns: an array or a `Vec` of names, or of names with `args![..]`, or a
/// `WorkflowDefinition`. Its name is the function's, or the one given as `name = ".."`.
///
/// The function is called once for each `Mageflow`, takes nothing, and can still be called.
///
/// ```standalone_crate
/// use mageflow::{Arguments, args};
///
/// #[mageflow::task]
/// fn add_numbers(a: i64, b: i64) -> i64 {
///     a + b
/// }
///
/// #[mageflow::workflow]
/// fn add_and_double() -> [(&'static str, Arguments); 2] {
///     [("add_numbers", args![]), ("add_numbers", args![b = 15])]
/// }
/// assert!(mageflow::Mageflow::builder().workflows()?.iter().any(|workflow| workflow.name() == "add_and_double"));
/// # Ok::<(), mageflow::Error>(())
/// ```
#[proc_macro_attribute]
pub fn workflow(args: TokenStream, item: TokenStream) -> TokenStream {
    workflow::expand(args.into(), item.into()).into()
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
