//! What `config show` prints.

use super::check::Loaded;
use super::mask::{MASK, is_secret, masked};
use crate::toml::Raw;

impl Loaded {
    /// Every value with its origin, a line each: `section.key = value  # FILE:LINE`, the value in TOML.
    #[must_use]
    pub fn show(&self) -> Vec<String> {
        let line = |(key, raw, origin): &(String, Raw, _)| {
            let value = match raw {
                Raw::Text(url) if key.starts_with("discovery.") && key.ends_with(".url") => {
                    Raw::Text(masked(url)).show()
                }
                Raw::Text(url) if key.starts_with("store.") && url.contains("://") => {
                    Raw::Text(masked(url)).show()
                }
                _ if key.starts_with("store.options.") && is_secret(key) => Raw::Text(MASK.to_owned()).show(),
                raw => raw.show(),
            };
            format!("{key} = {value}  # {origin}")
        };
        self.shown.iter().map(line).collect()
    }
}
