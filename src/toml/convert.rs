//! From a value as written to what it means, where any file may have it. Errors say what is expected.

use std::path::{Component, Path, PathBuf};

use super::raw::Raw;

pub(crate) type Converted<T> = Result<T, String>;

pub(crate) fn text(raw: &Raw) -> Converted<String> {
    match raw {
        Raw::Text(text) | Raw::Untyped(text) if text.is_empty() => Err("must not be empty".to_owned()),
        Raw::Text(text) | Raw::Untyped(text) if text.contains(['\n', '\r', '\0']) => {
            Err("must be one line".to_owned())
        }
        Raw::Text(text) | Raw::Untyped(text) => Ok(text.clone()),
        other => Err(format!("expected a string in quotes, found {}", other.kind())),
    }
}

pub(crate) fn number(raw: &Raw) -> Converted<i64> {
    match raw {
        Raw::Number(number) => Ok(*number),
        Raw::Untyped(text) => text.parse().map_err(|_| format!("expected a number, found '{text}'")),
        other => Err(format!("expected a number, found {}", other.kind())),
    }
}

pub(crate) fn boolean(raw: &Raw) -> Converted<bool> {
    match raw {
        Raw::Bool(yes) => Ok(*yes),
        other => Err(format!("expected true or false, found {}", other.kind())),
    }
}

/// `path` of a value that reads `text`.
pub(crate) fn absolute(text: &str, path: &Path) -> Converted<PathBuf> {
    if !path.is_absolute() {
        return Err(format!("expected an absolute path, found '{text}'"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("the path must not contain '..', found '{text}'"));
    }
    // Without a slash at the end or doubled ones, so that equal roots are equal.
    Ok(path.components().collect())
}
