//! JSON that people can read, and that is noticed when it is not what was written.

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Serialize, Deserialize)]
struct Sealed {
    version: u32,
    checksum: String,
    content: Value,
}

const VERSION: u32 = 1;

/// `content` with version and checksum.
pub(crate) fn seal(content: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    let content = serde_json::to_value(content)?;
    let checksum = checksum(&content);
    Ok(serde_json::to_vec_pretty(&Sealed { version: VERSION, checksum, content })?)
}

/// Reads what [`seal`] gave, and nothing else.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8]) -> anyhow::Result<T> {
    // What another version wrote may look different in all else.
    let versioned: Versioned = serde_json::from_slice(bytes).context("it is no file of xds-sync")?;
    if versioned.version != VERSION {
        bail!("it has version {}, and this xds-sync knows version {VERSION}", versioned.version);
    }
    let sealed: Sealed = serde_json::from_slice(bytes).context("it is no file of xds-sync")?;
    if checksum(&sealed.content) != sealed.checksum {
        bail!("its checksum is wrong");
    }
    serde_json::from_value(sealed.content).context("its content is malformed")
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Over the compact form, in which serde_json's maps are sorted: layout does not count, content does.
fn checksum(content: &Value) -> String {
    blake3::hash(content.to_string().as_bytes()).to_hex().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn content() -> BTreeMap<String, Vec<u64>> {
        BTreeMap::from([("moh".to_owned(), vec![1, 22]), ("a\"b".to_owned(), vec![])])
    }

    #[test]
    fn content_is_read_as_written() {
        let sealed = seal(&content()).unwrap();
        assert_eq!(open::<BTreeMap<String, Vec<u64>>>(&sealed).unwrap(), content());
    }

    /// Damage that leaves the same JSON, such as another space, changes nothing and may pass.
    #[test]
    fn no_damage_changes_what_is_read() {
        let good = seal(&content()).unwrap();
        for at in 0..good.len() {
            assert!(open::<Value>(&good[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = good.clone();
                flipped[at] ^= 1 << bit;
                if let Ok(read) = open::<BTreeMap<String, Vec<u64>>>(&flipped) {
                    assert_eq!(read, content(), "byte {at}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("", "it is no file of xds-sync"),
            ("{\"id\": \"01A\"}", "it is no file of xds-sync"),
            ("{\"version\": 2, \"other\": 1}", "it has version 2, and this xds-sync knows version 1"),
            ("{\"version\": 1, \"checksum\": \"00\", \"content\": {}}", "its checksum is wrong"),
        ] {
            assert_eq!(open::<Value>(text.as_bytes()).unwrap_err().to_string(), expected);
        }
        let other = seal(&["no map"]).unwrap();
        let error = open::<BTreeMap<String, u64>>(&other).unwrap_err();
        assert_eq!(error.to_string(), "its content is malformed");
    }
}
