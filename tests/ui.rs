//! Programs that must compile, and programs that must not, with what the compiler says about them.
//!
//! The `.stderr` files are those of the pinned toolchain; `TRYBUILD=overwrite cargo test --test ui` writes them anew.
#![cfg(feature = "macros")]

#[test]
fn programs() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
