#[mageflow::task]
async fn not_send() {
    let shared = std::rc::Rc::new(1);
    std::future::ready(()).await;
    drop(shared);
}

#[mageflow::task]
async fn wrong_call(_a: u8) -> u8 {
    1
}

fn main() {
    let _ = wrong_call("x");
}
