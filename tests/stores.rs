//! Every store through the store suite.

use mageflow::{
    Error,
    store::{Commit, SignatureStore, memory::MemoryStore},
    testing::{Faults, FlakyStore, store_suite},
};
use std::sync::Arc;

fn memory() -> Arc<dyn SignatureStore> {
    Arc::new(MemoryStore::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_store() {
    store_suite::run_all(|| async { memory() }).await;
}

#[tokio::test]
async fn memory_store_on_one_thread() {
    store_suite::run_all(|| async { memory() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_store_behind_a_flaky_store_without_faults() {
    store_suite::run_all(|| async {
        Arc::new(FlakyStore::new(memory(), 1, Faults::default())) as Arc<dyn SignatureStore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_store_behind_a_slow_store() {
    store_suite::run_all(|| async {
        let faults = Faults { delay: 0.5, ..Faults::default() };
        Arc::new(FlakyStore::new(memory(), 2, faults)) as Arc<dyn SignatureStore>
    })
    .await;
}

fn empty_commit() -> Commit {
    let (graph, live) = (mageflow::signature::GraphId::new(), 0);
    Commit { graph, writes: Vec::new(), live, keep: std::time::Duration::ZERO }
}

#[tokio::test]
async fn faults_are_retryable_and_repeat_with_their_seed() {
    let outcomes = async |seed| {
        let store = FlakyStore::new(memory(), seed, Faults { before: 0.3, after: 0.3, delay: 0.1 });
        let mut failed = Vec::new();
        for _ in 0..100 {
            let answer = store.commit(empty_commit()).await;
            assert!(matches!(&answer, Ok(_) | Err(Error::Store { retryable: true, .. })), "{answer:?}");
            failed.push(answer.is_err());
        }
        assert_eq!(store.injected(), failed.iter().filter(|failed| **failed).count() as u64);
        store.set_faults(Faults::default());
        assert!(store.commit(empty_commit()).await.is_ok());
        failed
    };
    let first = outcomes(7).await;
    assert!(first.contains(&true) && first.contains(&false));
    assert_eq!(first, outcomes(7).await);
    assert_ne!(first, outcomes(8).await);
}

#[tokio::test]
async fn a_fault_before_leaves_nothing_and_one_after_leaves_all() {
    for (faults, is_done) in
        [(Faults { before: 1.0, ..Faults::default() }, false), (Faults { after: 1.0, ..Faults::default() }, true)]
    {
        let inner = memory();
        let mut listener = inner.notices().await.unwrap();
        let store = FlakyStore::new(inner, 1, faults);
        assert!(store.notify(mageflow::store::Notice::Missed).await.is_err());
        let heard = tokio::time::timeout(std::time::Duration::from_millis(20), listener.next()).await;
        assert_eq!(heard.is_ok(), is_done);
    }
}
