//! L1. Cases: pages of keys.

use super::{Store, samples::*};
use crate::{
    signature::{GraphId, Role, SignatureKey},
    store::Scan,
};

/// All keys, page by page, checked for what each page promises.
async fn scanned(store: &Store, limit: usize, roots_only: bool) -> Vec<SignatureKey> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = store.scan(Scan { after, limit, roots_only }).await.unwrap();
        assert!(page.keys.len() <= limit, "{} keys on a page of {limit}", page.keys.len());
        all.extend(page.keys);
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

/// Single tasks, and a graph of many records; gives all keys, and the roots.
async fn filled(store: &Store) -> (Vec<SignatureKey>, Vec<SignatureKey>) {
    let (mut all, mut roots) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        let root = new_root();
        write(store, vec![create(record(&root)), create(record(&root.relative(Role::OnError)))]).await.unwrap();
        all.extend([root.clone(), root.relative(Role::OnError)]);
        roots.push(root);
    }
    let graph = GraphId::new();
    let mut large: Vec<_> = (0..3).map(|index| SignatureKey::root_of_many(graph, index)).collect();
    roots.extend(large.clone());
    large.extend((0..200).map(|index| SignatureKey::root_of_many(graph, 1).child(index)));
    write(store, large.iter().map(|key| create(record(key))).collect()).await.unwrap();
    all.extend(large);
    // Below a root that is not there itself.
    let orphan = new_root().child(0);
    created(store, record(&orphan)).await;
    all.push(orphan);
    (all, roots)
}

/// Whatever the size of a page: every key is on one of them, and on one only.
pub async fn pages_have_everything_once(store: Store) {
    assert!(scanned(&store, 10, false).await.is_empty());
    let (all, _) = filled(&store).await;
    for limit in [1, 7, 100, all.len(), 10_000] {
        assert_same_keys(&scanned(&store, limit, false).await, &all, &format!("pages of {limit}"));
    }
    store.remove(all[0].graph()).await.unwrap();
    assert!(!scanned(&store, 50, false).await.contains(&all[0]));
}

/// Where only roots are asked for, every root comes once, and nothing else.
pub async fn pages_of_roots_have_only_roots(store: Store) {
    let (_, roots) = filled(&store).await;
    for limit in [1, 7, 10_000] {
        assert_same_keys(&scanned(&store, limit, true).await, &roots, &format!("pages of {limit}"));
    }
}

/// What is there all the time is found once, whatever comes and goes meanwhile.
pub async fn a_new_graph_during_a_scan_breaks_nothing(store: Store) {
    let (all, _) = filled(&store).await;
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store.scan(Scan { after, limit: 20, roots_only: false }).await.unwrap();
        found.extend(page.keys);
        let (comes, goes) = (new_root(), new_root());
        created(&store, record(&comes)).await;
        created(&store, record(&goes)).await;
        store.remove(goes.graph()).await.unwrap();
        match page.next {
            // Each page adds one graph; the few that the scan still meets cannot keep it going for ever.
            Some(next) => after = Some(next),
            None => break,
        }
    }
    found.retain(|key| all.contains(key));
    assert_same_keys(&found, &all, "pages with changes in between");
}
