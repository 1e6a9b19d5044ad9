#[mageflow::task]
fn generic<T>(_a: T) {}

#[mageflow::task]
fn lifetime<'a>(_a: std::borrow::Cow<'a, str>) {}

#[mageflow::task]
fn constrained()
where
    u8: Copy,
{
}

#[mageflow::task]
fn anonymous(_a: impl Send) {}

#[mageflow::task]
fn reference(_a: &str) {}

#[mageflow::task]
fn reference_within(_a: Vec<Option<&'static str>>) {}

#[mageflow::task]
fn pattern((_a, _b): (u8, u8)) {}

#[mageflow::task]
fn wildcard(_: u8) {}

#[mageflow::task]
fn returns_reference() -> &'static str {
    ""
}

#[mageflow::task]
fn returns_anonymous() -> impl Send {}

#[mageflow::task]
const fn constant() {}

#[mageflow::task]
unsafe fn not_safe() {}

#[mageflow::task]
extern "C" fn foreign() {}

#[mageflow::task]
fn conditional(#[cfg(all())] _a: u8) {}

#[mageflow::task]
fn thirteen(
    _1: u8, _2: u8, _3: u8, _4: u8, _5: u8, _6: u8, _7: u8, _8: u8, _9: u8, _10: u8, _11: u8, _12: u8, _13: u8,
) {
}

fn main() {}
