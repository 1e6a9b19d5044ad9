//! L2, Celery engine. Names of keys and channels as kombu has them (`kombu/transport/redis.py`). Pure.

use crate::adapters::celery::wire::parcel::Route;

/// What stands between the parts of names.
pub(crate) const SEPARATOR: &str = "\u{6}\u{16}";
/// The least of the priorities that share a list.
pub(crate) const STEPS: [u8; 4] = [0, 3, 6, 9];

/// How a broker is laid out. Everybody who uses it must say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) prefix: String,
    pub(crate) separator: String,
    pub(crate) steps: Vec<u8>,
    pub(crate) database: i64,
}

impl Layout {
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The list of a queue for messages this urgent: 0 is served first.
    pub(crate) fn list(&self, queue: &str, priority: u8) -> String {
        let step = self.steps.iter().rev().find(|step| **step <= priority).copied();
        self.list_of_step(queue, step.or(self.steps.first().copied()).unwrap_or_default())
    }

    /// All lists of a queue, the most urgent first.
    pub(crate) fn lists(&self, queue: &str) -> impl Iterator<Item = String> {
        self.steps.iter().map(move |step| self.list_of_step(queue, *step))
    }

    fn list_of_step(&self, queue: &str, step: u8) -> String {
        match step {
            0 => self.key(queue),
            step => format!("{}{queue}{}{step}", self.prefix, self.separator),
        }
    }

    /// Which queues are bound to an exchange, and a copy that is not swept.
    pub(crate) fn bindings(&self, exchange: &str) -> [String; 2] {
        [self.key(&format!("_kombu.binding.{exchange}")), self.key(&format!("_kombu.binding_permanent.{exchange}"))]
    }

    /// The binding of a queue to the exchange of its name.
    pub(crate) fn own_binding(&self, queue: &str) -> String {
        format!("{queue}{0}{0}{queue}", self.separator)
    }

    /// The queue that a binding leads to, if it takes messages with this key.
    pub(crate) fn bound<'a>(&self, binding: &'a str, routing_key: &str) -> Option<&'a str> {
        let mut parts = binding.split(&*self.separator);
        let (key, pattern, queue) = (parts.next()?, parts.next()?, parts.next()?);
        let fits = if pattern.is_empty() { key == routing_key } else { topic_fits(key, routing_key) };
        fits.then_some(queue)
    }

    /// The channel of an exchange that sends to all. Channels are the same for all databases, so their names say which.
    pub(crate) fn channel(&self, exchange: &str) -> String {
        format!("{}/{}.{exchange}", self.prefix, self.database)
    }

    /// Whether it takes no look at bindings to know where this goes.
    pub(crate) fn is_direct(route: &Route) -> bool {
        route.exchange.is_empty()
    }
}

/// Whether a key of words fits a pattern in which `*` is one word and `#` any number.
fn topic_fits(pattern: &str, key: &str) -> bool {
    fn fits(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            (["#"], _) => true,
            (["#", rest @ ..], _) => (0..=key.len()).any(|skip| fits(rest, &key[skip..])),
            (["*", pattern @ ..], [_, key @ ..]) => fits(pattern, key),
            ([word, pattern @ ..], [first, key @ ..]) => word == first && fits(pattern, key),
            _ => false,
        }
    }
    let (pattern, key): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), key.split('.').collect());
    // Longer ones are nobody's, and would take long.
    pattern.len() <= 16 && key.len() <= 64 && fits(&pattern, &key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(prefix: &str) -> Layout {
        Layout { prefix: prefix.into(), separator: SEPARATOR.into(), steps: STEPS.to_vec(), database: 0 }
    }

    #[test]
    fn names_are_those_of_kombu() {
        let plain = layout("");
        let lists: Vec<_> = plain.lists("celery").collect();
        assert_eq!(lists, ["celery", "celery\u{6}\u{16}3", "celery\u{6}\u{16}6", "celery\u{6}\u{16}9"]);
        let of = [0, 2, 3, 5, 9, 10, 255].map(|priority| plain.list("celery", priority));
        assert_eq!(of.iter().map(String::len).collect::<Vec<_>>(), [6, 6, 9, 9, 9, 9, 9]);
        assert_eq!((&of[3], &of[6]), (&lists[1], &lists[3]));
        assert_eq!(plain.own_binding("celery"), "celery\u{6}\u{16}\u{6}\u{16}celery");
        let prefixed = layout("pfx:");
        assert_eq!(prefixed.list("celery", 0), "pfx:celery");
        assert_eq!(prefixed.bindings("celery")[0], "pfx:_kombu.binding.celery");
        assert_eq!(prefixed.channel("celery.pidbox"), "pfx:/0.celery.pidbox");
    }

    #[test]
    fn bindings_are_followed() {
        let plain = layout("");
        assert_eq!(plain.bound("celery\u{6}\u{16}\u{6}\u{16}q", "celery"), Some("q"));
        assert_eq!(plain.bound("celery\u{6}\u{16}\u{6}\u{16}q", "other"), None);
        let topic = "a.*.c\u{6}\u{16}^a\\.[^\\.]+\\.c$\u{6}\u{16}topicq2";
        assert_eq!([plain.bound(topic, "a.b.c"), plain.bound(topic, "a.c")], [Some("topicq2"), None]);
        assert!(
            topic_fits("#", "x.y")
                && topic_fits("a.#", "a")
                && topic_fits("#.z", "a.b.z")
                && !topic_fits("a.#.b", "a.c")
        );
        assert_eq!(plain.bound("nonsense", "x"), None);
    }
}
