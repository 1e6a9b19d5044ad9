use crate::task::{TaskId, new_uuid};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr, sync::Arc};
use uuid::Uuid;

/// The identity of a graph: everything that was created together, from its root down to the last callback.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GraphId(Uuid);

impl GraphId {
    /// A new, unique id.
    pub fn new() -> Self {
        Self(new_uuid())
    }

    /// The same id for the same words, for graphs that are created again by a retried run.
    pub fn derived(from: &str) -> Self {
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, from.as_bytes()))
    }

    /// The id as a number, for spreading graphs over shards.
    pub fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
}

impl Default for GraphId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for GraphId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for GraphId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GraphId({self})")
    }
}

/// What a signature is to the one whose key its own key extends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A step of a chain or an item of a swarm.
    Child(u32),
    /// The callback after a success.
    OnSuccess,
    /// The callback after a final failure.
    OnError,
    /// The callback after any end.
    OnComplete,
}

/// The key of a signature: its graph and its place in it.
///
/// Places are paths: `<graph>` is the root, `<graph>/3` its child number 3, `<graph>/3/s` that child's success
/// callback. So a container needs no list of its children, and whether one contains another shows in the keys.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignatureKey {
    graph: GraphId,
    path: Option<Arc<str>>,
}

impl SignatureKey {
    /// The root of a new graph.
    pub fn root(graph: GraphId) -> Self {
        Self { graph, path: None }
    }

    /// One of several roots that share a graph because they were created in one transaction.
    pub fn root_of_many(graph: GraphId, index: u32) -> Self {
        Self { graph, path: Some(format!("r{index}").into()) }
    }

    /// The key of a relative of this one.
    pub fn relative(&self, role: Role) -> Self {
        let separator = if self.path.is_some() { "/" } else { "" };
        let own = self.path();
        let path = match role {
            Role::Child(index) => format!("{own}{separator}{index}"),
            Role::OnSuccess => format!("{own}{separator}s"),
            Role::OnError => format!("{own}{separator}e"),
            Role::OnComplete => format!("{own}{separator}c"),
        };
        Self { graph: self.graph, path: Some(path.into()) }
    }

    /// The key of the child number `index`.
    pub fn child(&self, index: u32) -> Self {
        self.relative(Role::Child(index))
    }

    /// The key of a note that an addition by a retried run leaves at its swarm.
    pub(crate) fn note(&self, words: &str) -> Self {
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, words.as_bytes()).simple().to_string();
        let separator = if self.path.is_some() { "/" } else { "" };
        Self { graph: self.graph, path: Some(format!("{}{separator}n{id}", self.path()).into()) }
    }

    /// Its graph.
    pub fn graph(&self) -> GraphId {
        self.graph
    }

    /// Its place in the graph; empty for the root.
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or_default()
    }

    /// Whether nothing contains it and it is no callback.
    pub fn is_root(&self) -> bool {
        let path = self.path();
        path.is_empty() || path.starts_with('r') && !path.contains('/')
    }

    /// Whether `other` is this signature or lies below it.
    pub fn contains(&self, other: &Self) -> bool {
        self.graph == other.graph
            && match &self.path {
                None => true,
                Some(own) => {
                    other.path().strip_prefix(&**own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                }
            }
    }

    /// Those whose pause or cancellation concerns this signature, nearest first, without itself. `true` marks the ones
    /// above a callback on the way: a callback waits while they are paused, but it still runs when they are cancelled.
    pub fn ancestors(&self) -> Vec<(Self, bool)> {
        let mut found = Vec::new();
        let (mut path, mut above_callback) = (self.path(), false);
        loop {
            let (mut up, last) = path.rsplit_once('/').unwrap_or(("", path));
            if path.is_empty() || last.starts_with('r') {
                return found;
            }
            if matches!(last, "s" | "e" | "c") {
                // The owner of a callback has ended, so only what contains the owner can still be paused.
                above_callback = true;
                if up.is_empty() || up.rsplit('/').next().is_some_and(|owner| owner.starts_with('r')) {
                    return found;
                }
                up = up.rsplit_once('/').map_or("", |(above, _)| above);
            }
            let key = Self { graph: self.graph, path: (!up.is_empty()).then(|| up.into()) };
            found.push((key, above_callback));
            path = up;
        }
    }

    /// The id under which dispatch number `epoch` of this signature is sent: the same whenever it is sent again.
    pub fn dispatch_id(&self, epoch: u32) -> TaskId {
        // Distinct inputs of one fixed-namespace hash; no id of another graph can meet it.
        let name = format!("{}#{epoch}", self.path());
        TaskId::from_uuid(Uuid::new_v5(&self.graph.0, name.as_bytes()))
    }
}

impl fmt::Display for SignatureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}/{path}", self.graph),
            None => fmt::Display::fmt(&self.graph, f),
        }
    }
}

impl fmt::Debug for SignatureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignatureKey({self})")
    }
}

/// The text is not a signature key.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a signature key: expected a UUID, optionally followed by `/` and a path")]
pub struct InvalidKey(String);

impl FromStr for SignatureKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (graph, path) = text.split_once('/').map_or((text, None), |(graph, path)| (graph, Some(path)));
        let allowed = |path: &str| path.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'/');
        match Uuid::try_parse(graph) {
            Ok(graph) if path.is_none_or(|path| !path.is_empty() && allowed(path)) => {
                Ok(Self { graph: GraphId(graph), path: path.map(Into::into) })
            }
            _ => Err(InvalidKey(text.chars().take(100).collect())),
        }
    }
}

impl Serialize for SignatureKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SignatureKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(key: &SignatureKey) -> Vec<(String, bool)> {
        key.ancestors().into_iter().map(|(key, above)| (key.path().to_owned(), above)).collect()
    }

    #[test]
    fn prints_and_parses_back() {
        let root = SignatureKey::root(GraphId::new());
        for key in [root.clone(), root.child(3), root.child(3).relative(Role::OnSuccess).child(0)] {
            assert_eq!(key.to_string().parse::<SignatureKey>().unwrap(), key);
        }
        for text in ["", "x", "x/1", &format!("{root}/"), &format!("{root}/A")] {
            assert!(text.parse::<SignatureKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn ancestors_skip_the_ended_owner_of_a_callback() {
        let root = SignatureKey::root(GraphId::new());
        let own = |path: &str, above| (path.to_owned(), above);
        assert_eq!(paths(&root), []);
        assert_eq!(paths(&root.child(3).child(1)), [own("3", false), own("", false)]);
        let callback = root.child(3).child(1).relative(Role::OnError);
        assert_eq!(paths(&callback), [own("3", true), own("", true)]);
        assert_eq!(paths(&callback.child(0)), [own("3/1/e", false), own("3", true), own("", true)]);
        assert_eq!(paths(&root.relative(Role::OnSuccess).child(2)), [own("s", false)]);
        assert_eq!(paths(&SignatureKey::root_of_many(root.graph(), 1).child(2)), [own("r1", false)]);
        assert_eq!(paths(&SignatureKey::root_of_many(root.graph(), 1).relative(Role::OnSuccess)), []);
    }

    #[test]
    fn containment_follows_whole_segments() {
        let root = SignatureKey::root(GraphId::new());
        assert!(root.contains(&root) && root.contains(&root.child(1)));
        assert!(root.child(1).contains(&root.child(1).child(0)));
        assert!(!root.child(1).contains(&root.child(11)));
        assert!(!root.child(1).contains(&root));
    }

    #[test]
    fn dispatch_ids_depend_on_place_and_epoch_alone() {
        let key = SignatureKey::root(GraphId::new()).child(1);
        assert_eq!(key.dispatch_id(1), key.clone().dispatch_id(1));
        assert_ne!(key.dispatch_id(1), key.dispatch_id(2));
        assert_ne!(key.dispatch_id(1), SignatureKey::root(key.graph()).dispatch_id(1));
    }
}
