#[mageflow::task]
fn two_return_values(#[return_value] _a: u8, #[return_value] _b: u8) {}

#[mageflow::task]
fn return_value_with_arguments(#[return_value(1)] _a: u8) {}

#[mageflow::task]
fn two_defaults(#[default] #[default = 1] _a: u8) {}

#[mageflow::task]
fn default_in_parentheses(#[default(1)] _a: u8) {}

#[mageflow::task]
fn default_of_another_type(#[default = "x"] _a: u8) {}

#[mageflow::task(return_field = "x")]
fn field_of_many(_a: u8, _b: u8) {}

#[mageflow::task(return_field = "x")]
fn field_and_whole(#[return_value] _a: u8) {}

fn main() {}
