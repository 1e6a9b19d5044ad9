//! L1. The names of keys and channels. `docs/redis-layout.md` describes what is in them.

use crate::signature::{GraphId, SignatureKey};

/// Number of the layout; part of every name. Another layout is another store.
const LAYOUT: &str = "v1";

/// How many parts the graphs are spread over. All keys of a part are on one node of a cluster, because the scripts that
/// change a graph also change what finds it.
pub(super) const BUCKETS: u32 = 32;

/// Names under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    base: String,
}

/// The keys of one graph and of its bucket.
pub(super) struct GraphKeys {
    pub(super) graph: String,
    pub(super) paths: String,
    pub(super) bucket: BucketKeys,
}

/// The keys that find the graphs of one bucket.
pub(super) struct BucketKeys {
    pub(super) alarms: String,
    pub(super) ends: String,
    pub(super) graphs: String,
    /// What the keys of a graph, and those of its paths, begin with.
    pub(super) graph_base: String,
    pub(super) paths_base: String,
}

impl Layout {
    pub(super) fn new(prefix: &str) -> Self {
        Self { base: format!("{prefix}:{LAYOUT}") }
    }

    pub(super) fn bucket(&self, number: u32) -> BucketKeys {
        let base = format!("{}:{{{number:02}}}", self.base);
        BucketKeys {
            alarms: format!("{base}:alarms"),
            ends: format!("{base}:ends"),
            graphs: format!("{base}:graphs"),
            graph_base: format!("{base}:graph:"),
            paths_base: format!("{base}:paths:"),
        }
    }

    pub(super) fn graph(&self, graph: GraphId) -> GraphKeys {
        let bucket = self.bucket(bucket_of(graph));
        GraphKeys {
            graph: format!("{}{graph}", bucket.graph_base),
            paths: format!("{}{graph}", bucket.paths_base),
            bucket,
        }
    }

    /// The hash of a graph alone.
    pub(super) fn graph_key(&self, graph: GraphId) -> String {
        format!("{}:{{{:02}}}:graph:{graph}", self.base, bucket_of(graph))
    }

    /// A key that is written and deleted to see whether that can be done.
    pub(super) fn trial(&self, process: &str) -> String {
        format!("{}:trial:{process}", self.base)
    }

    /// Where notices are told to all processes.
    pub(super) fn notices(&self) -> String {
        format!("{}:notices", self.base)
    }

    /// Where one process is told of changes that it waits for.
    pub(super) fn wake(&self, process: &str) -> String {
        format!("{}:wake:{process}", self.base)
    }
}

impl GraphKeys {
    /// In the order in which the scripts take them.
    pub(super) fn all(&self) -> [&str; 5] {
        [&self.graph, &self.paths, &self.bucket.alarms, &self.bucket.ends, &self.bucket.graphs]
    }
}

/// The low bits of an id are random, however it was made.
fn bucket_of(graph: GraphId) -> u32 {
    (graph.as_u128() % u128::from(BUCKETS)) as u32
}

/// A path as it is found in a script's answer, as the key that it is.
pub(super) fn parse_member(text: &str) -> Option<SignatureKey> {
    text.parse().ok()
}
