//! Configuration files: TOML, YAML and `.env`, as keys and texts.

use serde_json::Value;
use std::{fs, io::Read, path::Path};

/// More than any such file needs.
const MOST_BYTES: u64 = 1 << 20;

/// The settings in a file, by their keys; or what is wrong with it.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, String)>, String> {
    let wrong = |reason: String| format!("the file {}: {reason}", path.display());
    let text = text(path).map_err(wrong)?;
    let root = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::from_str(&text).map_err(|error| wrong(without_source(&error))),
        Some("yaml" | "yml") => yaml(&text).map_err(wrong),
        _ => Err(wrong("its name must end in .toml, .yaml or .yml".into())),
    }?;
    flat(&root).map_err(wrong)
}

/// The variables in a `.env` file. None if there is no such file.
pub(crate) fn variables(path: &Path) -> Result<Vec<(String, String)>, String> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let wrong = |reason: String| format!("the file {}: {reason}", path.display());
    let text = text(path).map_err(wrong)?;
    let pairs = dotenvy::from_read_iter(text.as_bytes()).enumerate();
    // What it says of a broken line would repeat it, and a secret may be in it.
    pairs.map(|(index, pair)| pair.map_err(|_| wrong(format!("entry {} is not NAME=VALUE", index + 1)))).collect()
}

fn text(path: &Path) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    match text.len() as u64 > MOST_BYTES {
        true => Err(format!("is larger than {MOST_BYTES} bytes")),
        false => Ok(text),
    }
}

/// What is wrong, without the line that is wrong: a secret may be in it.
fn without_source(error: &toml::de::Error) -> String {
    match error.span() {
        Some(span) => format!("{} at byte {}", error.message(), span.start),
        None => error.message().to_owned(),
    }
}

#[cfg(feature = "yaml")]
fn yaml(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    serde_saphyr::from_str(text).map_err(|error: serde_saphyr::Error| match error.location() {
        Some(at) => format!("is no YAML: line {}, column {}", at.line(), at.column()),
        None => "is no YAML".to_owned(),
    })
}

#[cfg(not(feature = "yaml"))]
fn yaml(_: &str) -> Result<Value, String> {
    Err("this build reads no YAML; write it as TOML".into())
}

/// Names at the top, and names in sections.
fn flat(root: &Value) -> Result<Vec<(String, String)>, String> {
    let Value::Object(root) = root else { return Err("sections with names and values are expected".into()) };
    let mut pairs = Vec::new();
    for (name, value) in root {
        match value {
            Value::Object(section) => {
                for (inner, value) in section {
                    let key = format!("{name}.{inner}");
                    pairs.push((key.clone(), plain(&key, value)?));
                }
            }
            value => pairs.push((name.clone(), plain(name, value)?)),
        }
    }
    Ok(pairs)
}

fn plain(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            let items = items.iter().map(|item| plain(key, item)).collect::<Result<Vec<_>, _>>()?;
            Ok(items.join(","))
        }
        _ => Err(format!("`{key}` must be a text, a number, true or false, or a list of such")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: [(&str, &str); 3] = [("backend", "celery"), ("worker.concurrency", "4"), ("worker.queues", "a,b")];

    fn pairs(root: &Value) -> Vec<(String, String)> {
        flat(root).unwrap()
    }

    #[test]
    fn sections_are_read_in_both_languages() {
        let expected = PAIRS.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let toml = "backend = 'celery'\n[worker]\nconcurrency = 4\nqueues = ['a', 'b']";
        assert_eq!(pairs(&toml::from_str(toml).unwrap()), expected);
        #[cfg(feature = "yaml")]
        assert_eq!(pairs(&yaml("backend: celery\nworker:\n  concurrency: 4\n  queues: [a, b]").unwrap()), expected);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_text() {
        let error = toml::from_str::<Value>("[celery]\nbroker_url = 'redis://:secret").unwrap_err();
        assert!(!without_source(&error).contains("secret"), "{}", without_source(&error));
        #[cfg(feature = "yaml")]
        {
            let error = yaml("celery:\n  broker_url: \"redis://:secret\n - x: [").unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(flat(&serde_json::json!({"worker": {"queues": [["a"]]}})).is_err());
        assert!(flat(&serde_json::json!(["a"])).is_err());
    }
}
