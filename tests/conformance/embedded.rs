//! The embedded engine with the memory store.

use async_trait::async_trait;
use mageflow::{
    Mageflow, MageflowBuilder, adapters::embedded::EmbeddedEngine, store::memory::MemoryStore,
    testing::conformance::Factory,
};

#[derive(Debug)]
pub(crate) struct Embedded;

#[async_trait]
impl Factory for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    async fn builder(&self) -> MageflowBuilder {
        // Said, so that no variable of the environment counts.
        Mageflow::with_embedded(EmbeddedEngine::new()).store(MemoryStore::new())
    }

    async fn another(&self, _: &MageflowBuilder) -> Option<MageflowBuilder> {
        None
    }

    fn known_gaps(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
}
