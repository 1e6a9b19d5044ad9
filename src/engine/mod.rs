//! L2.
#[derive(Clone, Debug)]
pub struct Engine;
impl Engine {
    pub(crate) fn spawn(&self, f: impl std::future::Future<Output = ()> + Send + 'static) {
        tokio::spawn(f);
    }
}
