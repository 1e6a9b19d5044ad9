#[mageflow::task]
struct Struct;

#[mageflow::durable_task]
const CONSTANT: u8 = 1;

#[mageflow::with_ctx]
#[mageflow::task]
enum Enum {}

trait Trait {
    #[mageflow::task]
    fn method();
}

fn main() {}
