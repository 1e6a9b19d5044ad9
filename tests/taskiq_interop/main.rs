//! The TaskIQ adapter beside Python: clients and workers of `taskiq`, `taskiq-redis` and `taskiq-pipelines`, live, in both
//! directions. The part `taskiq` of scripts/test installs them and says where they are.

// What is in here is made to panic: it is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calls;
mod ends;
mod graphs;
mod labels;
mod peers;
mod pipelines;
mod poison;
#[path = "../peers/mod.rs"]
mod python;
mod sharing;
mod tasks;
mod world;

/// `on_brokers! { test: list stream }` runs the function `test` once on each of these brokers.
macro_rules! on_brokers {
    ($($test:ident: $($kind:ident)+;)+) => { $(
        mod $test {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $kind() {
                    if let Some(world) = $crate::world::World::new($crate::kinds::$kind) {
                        super::$test(world).await;
                    }
                }
            )+
        }
    )+ };
}
pub(crate) use on_brokers;

/// The brokers by the names that tests have.
#[expect(non_upper_case_globals, reason = "these are the names of tests")]
mod kinds {
    use crate::world::Kind;

    pub(crate) const list: Kind = Kind::List;
    pub(crate) const stream: Kind = Kind::Stream;
    pub(crate) const pubsub: Kind = Kind::Pubsub;
}
