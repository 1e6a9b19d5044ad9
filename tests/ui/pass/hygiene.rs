//! The code of a task means the same whatever its module shadows, and adds neither warnings nor unsafe code.
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unreachable_pub, rust_2018_idioms, let_underscore_drop, unused_qualifications)]

/// Tasks in a module where nothing is what it seems.
pub mod tasks {
    #![allow(dead_code, unused_macros, non_camel_case_types, non_upper_case_globals)]

    mod std {}
    mod core {}
    mod alloc {}
    mod serde {}
    mod tokio {}
    mod mageflow {}
    struct Result;
    struct Option;
    struct String;
    struct Box;
    struct Vec;
    struct Arc;
    struct Task;
    struct Json;
    struct Default;
    struct Clone;
    struct Copy;
    struct Send;
    struct Some;
    struct None;
    struct Ok;
    struct Err;
    enum i64 {}
    enum bool {}
    trait Deref {
        fn deref(&self) {}
    }
    impl<T> Deref for T {}
    trait Into {
        fn into(&self) {}
        fn clone(&self) {}
        fn bind(self) where Self: Sized {}
        fn take(self) where Self: Sized {}
        fn one(self) where Self: Sized {}
        fn one_or(self) where Self: Sized {}
        fn registered(self) where Self: Sized {}
    }
    impl<T> Into for T {}
    // A constant turns a pattern of its name into a comparison.
    const a: u8 = 1;
    const ctx: u8 = 1;
    const arguments: u8 = 1;
    const f: u8 = 1;
    const task: u8 = 1;
    macro_rules! panic { () => { compile_error!("shadowed") } }
    macro_rules! vec { () => { compile_error!("shadowed") } }
    macro_rules! format { () => { compile_error!("shadowed") } }
    macro_rules! used { ($($name:ident)*) => { #[allow(unused_imports)] use {$($name),*}; } }
    used! { panic vec format }

    /// A plain task.
    #[::mageflow::task(
        retries = 1, backoff = exponential("1s"), timeout = "1s", schedule_timeout = "1s", priority = low, queue = "q",
        result_ttl = "1s", concurrency = 1, stagger = "1s"
    )]
    pub fn plain(x: ::core::primitive::i64, #[default] y: ::core::primitive::u8, #[default = 3] z: u16) -> u32 {
        let _unused = (x, y);
        u32::from(z)
    }

    /// A task with everything.
    #[::mageflow::durable_task]
    #[::mageflow::with_ctx]
    #[::mageflow::with_signature]
    pub async fn full(
        x: ::std::vec::Vec<u8>,
        c: ::mageflow::TaskContext,
        k: ::core::option::Option<::mageflow::SignatureKey>,
    ) -> ::core::result::Result<u8, ::mageflow::TaskError> {
        let _unused = (c, k);
        ::core::result::Result::Ok(x[0])
    }

    /// A blocking task without a result.
    #[::mageflow::task(blocking)]
    pub fn silent(x: ::mageflow_json::Value) {
        drop(x);
    }

}

/// Without any docs or names, like in a small program.
mod more {
    // A function may be named like a module, and a task too.
    mod resize {
        #[mageflow::task]
        pub(crate) fn resize(width: u32) -> u32 {
            width / 2
        }
    }
    pub(crate) use resize::resize;

    // Nobody names it here: that is not dead code, others call it.
    #[mageflow::task]
    async fn lonely() {}

    #[mageflow::task]
    fn lonely_too(_a: u8, #[default] _b: u8) -> Result<(), std::io::Error> {
        Ok(())
    }
}

extern crate serde_json as mageflow_json;

fn main() {
    assert_eq!(tasks::plain(1, 2, 3), 3);
    assert_eq!(more::resize(4), 2);
    tasks::silent(mageflow_json::Value::Null);
    let _future = tasks::full;
}
