struct Service;

impl Service {
    #[mageflow::task]
    fn method(&self) {}
}

fn main() {}
