//! What is written in place of a task's function. Judges nothing: what arrives here is valid.
//!
//! The function's name becomes a constant of a hidden type. The type dereferences to a function pointer, so that the
//! constant can be called like the function, and implements `Task`. It is a constant and not the type itself so that,
//! like a function, it leaves the name free for types and modules.
//!
//! The code that is written names nothing but `::mageflow::__private` and `::core`, so that it means the same whatever
//! the user's module shadows. Its own names begin with `__mageflow`: a pattern that is named like some constant of the
//! user's, for example another task, would not be a binding.

use crate::{
    options::{Backoff, Options, Priority},
    validate::{Fallback, Input, Output, Role, Run, Task, is_named},
};
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use std::time::Duration;
use syn::{Attribute, Ident, ext::IdentExt as _, spanned::Spanned as _};

/// The whole.
pub(crate) fn task(task: &Task) -> TokenStream {
    let ident = &task.function.sig.ident;
    let ty = type_name(ident);
    let vis = &task.function.vis;
    let (outer, inner) = split_attributes(&task.function.attrs);
    let cfgs: Vec<_> = outer.iter().filter(|attr| attr.path().is_ident("cfg")).collect();
    let (sig, body) = (&task.function.sig, &task.function.body);
    let (decoders, call, run) = (decoders(task), call(task), run(task, &ty));
    let (deref, described) = (deref(task, &ty), described(task, &ty));
    let shown = ident.unraw().to_string();
    quote! {
        #(#outer)*
        #[allow(non_upper_case_globals)]
        #vis const #ident: #ty = #ty;

        #(#cfgs)*
        #[doc(hidden)]
        #[allow(non_camel_case_types, unreachable_pub)]
        #[derive(::core::clone::Clone, ::core::marker::Copy)]
        #vis struct #ty;

        #(#cfgs)*
        #[allow(deprecated)]
        const _: () = {
            #[allow(clippy::new_ret_no_self, clippy::missing_const_for_fn, clippy::needless_pass_by_value)]
            impl #ty {
                #(#inner)*
                #sig #body
                #decoders
                #call
                #run
            }
            impl ::core::fmt::Debug for #ty {
                fn fmt(&self, __mageflow_out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    ::core::fmt::Formatter::write_str(__mageflow_out, #shown)
                }
            }
            #deref
            #described
            ::mageflow::__private::inventory::submit! {
                ::mageflow::__private::Collected(|| ::mageflow::__private::Task::registered(&#ty))
            }
        };
    }
}

/// Says where the name of the hidden type comes from; it shows in compiler messages.
fn type_name(ident: &Ident) -> Ident {
    format_ident!("__mageflow_{}", ident.unraw(), span = ident.span())
}

/// Attributes of the constant, and those of the function inside.
fn split_attributes(attrs: &[Attribute]) -> (Vec<&Attribute>, Vec<&Attribute>) {
    let of_item = |attr: &&Attribute| ["doc", "cfg", "deprecated"].iter().any(|name| attr.path().is_ident(name));
    attrs.iter().partition(of_item)
}

fn output_type(output: &Output) -> TokenStream {
    match output {
        Output::Unit => quote!(()),
        Output::Plain(ty) | Output::Result(ty) => ty.to_token_stream(),
    }
}

/// Shown where `span` is, but with names that mean what they mean in the rest of the macro's code, even if a
/// `macro_rules!` wrote the function.
fn at(span: Span) -> Span {
    Span::call_site().located_at(span)
}

/// The local variable that holds input number `index`.
fn local(index: usize) -> Ident {
    format_ident!("__mageflow_{index}", span = Span::call_site())
}

/// For an `async fn`: the function that direct calls reach, whose future has a type that can be named.
fn call(task: &Task) -> TokenStream {
    if task.run != Run::Async {
        return TokenStream::new();
    }
    let ident = &task.function.sig.ident;
    let output = output_type(&task.output);
    let types = task.inputs.iter().map(|input| &input.ty);
    let locals: Vec<_> = (0..task.inputs.len()).map(local).collect();
    // Spanned at the name, so that "this future is not `Send`" is said there.
    let boxed = quote_spanned!(at(ident.span())=> ::mageflow::__private::Box::pin(Self::#ident(#(#locals),*)));
    quote! {
        fn __mageflow_call(#(#locals: #types),*) -> ::mageflow::__private::BoxFuture<#output> {
            #boxed
        }
    }
}

fn deref(task: &Task, ty: &Ident) -> TokenStream {
    let output = output_type(&task.output);
    let types: Vec<_> = task.inputs.iter().map(|input| &input.ty).collect();
    let (target, function) = match task.run {
        Run::Async => {
            (quote!(fn(#(#types),*) -> ::mageflow::__private::BoxFuture<#output>), format_ident!("__mageflow_call"))
        }
        Run::Inline | Run::Blocking => {
            let returned = &task.function.sig.output;
            (quote!(fn(#(#types),*) #returned), task.function.sig.ident.clone())
        }
    };
    quote! {
        impl ::core::ops::Deref for #ty {
            type Target = #target;
            fn deref(&self) -> &Self::Target {
                const __MAGEFLOW_CALL: #target = #ty::#function;
                &__MAGEFLOW_CALL
            }
        }
    }
}

/// The handler: decodes, runs, encodes.
fn run(task: &Task, ty: &Ident) -> TokenStream {
    let ident = &task.function.sig.ident;
    let decoded = decoded(task);
    let injected = task.inputs.iter().enumerate().map(|(index, input)| injected(index, input));
    let locals: Vec<_> = (0..task.inputs.len()).map(local).collect();
    let called = match task.run {
        Run::Async => quote_spanned!(at(ident.span())=> Self::#ident(#(#locals),*).await),
        Run::Inline => quote!(Self::#ident(#(#locals),*)),
        Run::Blocking => quote!(::mageflow::__private::run_blocking(move || Self::#ident(#(#locals),*)).await),
    };
    let output = match &task.output {
        Output::Unit => at(Span::call_site()),
        Output::Plain(ty) | Output::Result(ty) => at(ty.span()),
    };
    // The output has a name that is spanned at the type: that is where a type that does not fit is to be shown.
    let encoded = match &task.output {
        Output::Unit | Output::Plain(_) => {
            quote_spanned!(output=> ::mageflow::__private::finish::<#ty>(__mageflow_task, __mageflow_output))
        }
        Output::Result(returned) => quote_spanned! {output=>
            match ::mageflow::__private::result::<#ty, #returned>(__mageflow_output) {
                ::core::result::Result::Ok(__mageflow_output) => {
                    ::mageflow::__private::finish::<#ty>(__mageflow_task, __mageflow_output)
                }
                ::core::result::Result::Err(__mageflow_error) => ::core::result::Result::Err(
                    ::mageflow::__private::Failed(__mageflow_error).__mageflow_error()
                ),
            }
        },
    };
    let guard = match &task.output {
        Output::Plain(ty) => {
            quote_spanned!(output=> ::mageflow::__private::Returned::<#ty>::NEW.__mageflow_is_plain();)
        }
        Output::Unit | Output::Result(_) => TokenStream::new(),
    };
    let boxed = quote_spanned! {at(ident.span())=>
        ::mageflow::__private::Box::pin(async move {
            let __mageflow_task = &*::mageflow::__private::Task::registered(&#ty).definition;
            #decoded
            ::core::mem::drop(__mageflow_arguments);
            #(#injected)*
            let __mageflow_output = #called;
            #encoded
        })
    };
    quote! {
        #[allow(unused_imports, clippy::unit_arg, clippy::let_unit_value)]
        fn __mageflow_run(
            __mageflow_ctx: ::mageflow::__private::TaskContext,
            __mageflow_arguments: ::mageflow::__private::Arguments,
        ) -> ::mageflow::__private::HandlerFuture {
            use ::mageflow::__private::{AnyFailed as _, IsPlain as _};
            #guard
            #boxed
        }
    }
}

/// The parameters that callers give, with their places among all parameters.
fn arguments(task: &Task) -> impl Iterator<Item = (usize, &Input)> {
    task.inputs.iter().enumerate().filter(|(_, input)| matches!(input.role, Role::Argument { .. }))
}

/// For each argument a constant that decodes it.
fn decoders(task: &Task) -> TokenStream {
    let constants = arguments(task).map(|(index, input)| {
        let (ty, name, has_default) = (&input.ty, shown_name(&input.ident), default(input).is_some());
        let decoder = decoder(index);
        let new = quote_spanned!(at(ty.span())=> ::mageflow::__private::Argument::<#ty>::new(#name, #has_default));
        quote!(const #decoder: ::mageflow::__private::Argument<#ty> = #new;)
    });
    quote!(#(#constants)*)
}

fn decoder(index: usize) -> Ident {
    format_ident!("__MAGEFLOW_{index}", span = Span::call_site())
}

/// Statements that decode the arguments.
fn decoded(task: &Task) -> TokenStream {
    let inputs: Vec<_> = arguments(task).collect();
    if let [(index, input)] = inputs[..] {
        let (local, decoder) = (local(index), decoder(index));
        let given = quote!(&Self::#decoder, __mageflow_task, &__mageflow_arguments);
        return match default(input) {
            Some(value) => quote!(let #local = ::mageflow::__private::Argument::one_or(#given, || #value)?;),
            None => quote!(let #local = ::mageflow::__private::Argument::one(#given)?;),
        };
    }
    let names = inputs.iter().map(|(_, input)| shown_name(&input.ident));
    let bound = quote! {
        ::mageflow::__private::Arguments::bind(&__mageflow_arguments, &__mageflow_task.name, &[#(#names),*])?
    };
    if inputs.is_empty() {
        return quote!(::core::mem::drop(#bound););
    }
    let locals = inputs.iter().map(|(index, _)| local(*index));
    let taken = inputs.iter().enumerate().map(|(place, (index, input))| {
        let decoder = decoder(*index);
        let given = quote!(&Self::#decoder, &__mageflow_bound, #place);
        match default(input) {
            Some(value) => quote!(::mageflow::__private::Argument::take_or(#given, || #value)?),
            None => quote!(::mageflow::__private::Argument::take(#given)?),
        }
    });
    // In a block, so that nothing borrowed is alive when the function is awaited.
    quote! {
        let (#(#locals,)*) = {
            let __mageflow_bound = #bound;
            (#(#taken,)*)
        };
    }
}

/// The name that callers use.
fn shown_name(ident: &Ident) -> String {
    ident.unraw().to_string()
}

fn default(input: &Input) -> Option<TokenStream> {
    match &input.role {
        Role::Argument { default: Fallback::Value(value), .. } => Some(value.to_token_stream()),
        Role::Argument { default: Fallback::OfType(span), .. } => {
            let ty = &input.ty;
            Some(quote_spanned!(at(*span)=> <#ty as ::core::default::Default>::default()))
        }
        _ => None,
    }
}

/// Fills a parameter that is not an argument.
fn injected(index: usize, input: &Input) -> TokenStream {
    let local = local(index);
    match &input.role {
        Role::Argument { .. } => TokenStream::new(),
        Role::Context => quote!(let #local = ::core::clone::Clone::clone(&__mageflow_ctx);),
        Role::Signature => {
            let ty = &input.ty;
            quote_spanned!(at(ty.span())=> let #local = ::mageflow::__private::signature::<#ty>(&__mageflow_ctx)?;)
        }
    }
}

/// The implementation of `Task`.
fn described(task: &Task, ty: &Ident) -> TokenStream {
    let ident = &task.function.sig.ident;
    let (input, previous) = (input_type(task), previous_type(task));
    let output = match &task.output {
        Output::Unit => quote!(()),
        Output::Plain(ty) => ty.to_token_stream(),
        Output::Result(ty) => {
            quote_spanned!(at(ty.span())=> <#ty as ::mageflow::__private::IntoTaskResult>::Output)
        }
    };
    let name = match &task.options.name {
        Some(name) => name.value(),
        None => shown_name(ident),
    };
    let parameters = arguments(task).map(|(index, _)| decoder(index));
    let returns = returns(task);
    let options = options(&task.options);
    // Spanned at the name: the definition's location is that of the call.
    let defined = quote_spanned! {ident.span()=>
        ::mageflow::__private::define(
            #name,
            PARAMETERS,
            #returns,
            #options,
            || ::mageflow::__private::input_schema(PARAMETERS),
            ::mageflow::__private::output_schema::<#ty>,
            ::mageflow::__private::Arc::new(#ty::__mageflow_run),
        )
    };
    quote! {
        impl ::mageflow::__private::Task for #ty {
            type Input = #input;
            type Previous = #previous;
            type Output = #output;
            fn registered(&self) -> &'static ::mageflow::__private::RegisteredTask {
                const PARAMETERS: &[::mageflow::__private::Parameter<'static>] =
                    &[#(#ty::#parameters.parameter),*];
                static REGISTERED: ::mageflow::__private::LazyLock<::mageflow::__private::RegisteredTask> =
                    ::mageflow::__private::LazyLock::new(|| #defined);
                &REGISTERED
            }
        }
    }
}

fn input_type(task: &Task) -> TokenStream {
    let types: Vec<_> = arguments(task).map(|(_, input)| &input.ty).collect();
    match types[..] {
        [ty] => ty.to_token_stream(),
        _ => quote!((#(#types),*)),
    }
}

/// The parameter that takes the result of the step before, where the source says which.
fn return_value(task: &Task) -> Option<&Input> {
    let marked = |input: &&Input| matches!(input.role, Role::Argument { return_value: true, .. });
    arguments(task).map(|(_, input)| input).find(marked)
}

fn returns(task: &Task) -> TokenStream {
    match (return_value(task), &task.options.return_field) {
        (Some(input), _) => {
            let name = shown_name(&input.ident);
            quote!(::mageflow::__private::Returns::Parameter(#name))
        }
        (None, Some(field)) => quote!(::mageflow::__private::Returns::Field(#field)),
        (None, None) => quote!(::mageflow::__private::Returns::Unsaid),
    }
}

/// The name that a parameter or field has by convention when it takes the result of the step before.
const RESULTS: &str = "mageflow_results";

/// What the step before must return. Any result, if the place it goes to is not known here or takes several types.
fn previous_type(task: &Task) -> TokenStream {
    let any = quote!(::mageflow::__private::TakesAny);
    if task.options.return_field.is_some() {
        return any;
    }
    let conventional = || arguments(task).map(|(_, input)| input).find(|input| shown_name(&input.ident) == RESULTS);
    let first = || arguments(task).map(|(_, input)| input).next();
    match return_value(task).or_else(conventional).or_else(first) {
        Some(Input { ty, .. }) if !["Option", "Value", "Json"].iter().any(|name| is_named(ty, name)) => {
            quote!(::mageflow::__private::Takes<#ty>)
        }
        _ => any,
    }
}

fn options(options: &Options) -> TokenStream {
    let mut set: Vec<TokenStream> = Vec::new();
    let mut some = |field: &str, value: Option<TokenStream>| {
        let field = format_ident!("{field}");
        set.extend(value.map(|value| quote!(__mageflow_options.#field = ::core::option::Option::Some(#value);)));
    };
    some("timeout", options.timeout.map(span_of_time));
    some("schedule_timeout", options.schedule_timeout.map(span_of_time));
    some("result_ttl", options.result_ttl.map(span_of_time));
    some("stagger", options.stagger.map(span_of_time));
    some("concurrency", options.concurrency.map(|number| quote!(#number)));
    some("queue", options.queue.as_ref().map(|queue| quote!(::mageflow::__private::String::from(#queue))));
    if let Some(retries) = options.retries {
        set.push(quote!(__mageflow_options.retries = #retries;));
    }
    if let Some(backoff) = options.backoff.as_ref().map(backoff) {
        set.push(quote!(__mageflow_options.backoff = #backoff;));
    }
    if let Some(priority) = options.priority.map(priority) {
        set.push(quote!(__mageflow_options.priority = ::mageflow::__private::Priority::#priority;));
    }
    if options.durable {
        set.push(quote!(__mageflow_options.durable = true;));
    }
    let mutable = (!set.is_empty()).then(|| quote!(mut));
    quote! {{
        let #mutable __mageflow_options =
            <::mageflow::__private::TaskOptions as ::core::default::Default>::default();
        #(#set)*
        __mageflow_options
    }}
}

fn priority(priority: Priority) -> Ident {
    let name = match priority {
        Priority::Low => "Low",
        Priority::Normal => "Normal",
        Priority::High => "High",
    };
    Ident::new(name, Span::call_site())
}

fn backoff(backoff: &Backoff) -> TokenStream {
    match backoff {
        Backoff::Constant(delay) => {
            let delay = span_of_time(*delay);
            quote!(::mageflow::__private::Backoff::Constant { delay: #delay })
        }
        Backoff::Exponential { base, factor, max, jitter } => {
            let (base, max) = (span_of_time(*base), span_of_time(*max));
            quote!(::mageflow::__private::Backoff::Exponential {
                base: #base, factor: #factor, max: #max, jitter: #jitter
            })
        }
        Backoff::List(delays) => {
            let delays = delays.iter().copied().map(span_of_time);
            quote!(::mageflow::__private::Backoff::list([#(#delays),*]))
        }
    }
}

fn span_of_time(duration: Duration) -> TokenStream {
    // Never more than a `u64` of milliseconds: it was read from one.
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    quote!(::core::time::Duration::from_millis(#millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{options::Options, parse::Function, validate};

    fn emitted(source: &str, options: &str) -> String {
        let function: Function = syn::parse_str(source).unwrap();
        let options: Options = syn::parse_str(options).unwrap();
        task(&validate::task(function, options).unwrap_or_else(|e| panic!("{source}: {e}"))).to_string()
    }

    /// Whatever the user's module shadows, and whatever the user's crate depends on.
    #[test]
    fn nothing_is_named_but_the_library_and_core() {
        let source = "#[with_ctx] #[with_signature] async fn f(\
            #[default = 1] a: i64, #[default] b: B, #[return_value] c: C, x: TaskContext, k: Option<SignatureKey>) -> R {}";
        let options = r#"retries = 1, backoff = exponential("1s"), timeout = "1s", priority = low, queue = "q", durable,
            schedule_timeout = "1s", result_ttl = "1s", concurrency = 1, stagger = "1s", name = "n""#;
        let text = emitted(source, options).replace(' ', "");
        let globals: Vec<_> = text.split("::").collect();
        assert!(globals.len() > 50, "{text}");
        for word in ["std::", "serde", "tokio", "Some(", "None", "Ok(", "Err(", "Vec", "vec!", "format!"] {
            let found = text.match_indices(word).any(|(at, _)| !text[..at].ends_with("::"));
            assert!(!found, "{word} in {text}");
        }
    }

    #[test]
    fn the_name_is_the_function_or_what_was_said() {
        assert!(emitted("fn r#move() {}", "").contains("\"move\""));
        assert!(emitted("fn f() {}", r#"name = "elsewhere""#).contains("\"elsewhere\""));
    }

    #[test]
    fn a_condition_covers_everything() {
        assert_eq!(emitted("#[cfg(a)] fn f() {}", "").matches("cfg").count(), 3);
    }
}
