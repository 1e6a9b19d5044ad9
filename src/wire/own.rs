//! What only this library knows and sends along: options as JSON objects, and marks as text.

use crate::adapters::SignatureMark;
pub(crate) use crate::task::{Differing, Said};

/// A mark as text: epoch, colon, key.
pub(crate) fn mark_text(mark: &SignatureMark) -> String {
    format!("{}:{}", mark.epoch, mark.key)
}

/// The mark of such a text.
pub(crate) fn mark_of(text: &str) -> Option<SignatureMark> {
    let (epoch, key) = text.split_once(':')?;
    Some(SignatureMark { key: key.parse().ok()?, epoch: epoch.parse().ok()? })
}
