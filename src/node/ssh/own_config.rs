//! The configuration that ssh reads by itself, as far as it decides what we add.

use std::fs;
use std::path::Path;

/// Debian's `/etc/ssh/ssh_config` includes these.
const SYSTEM_PARTS: &str = "/etc/ssh/ssh_config.d";

/// The files of ssh_config(5) that ssh reads for a user, and what they say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnConfig {
    /// Whether they set ciphers, or include files that may.
    pub sets_ciphers: bool,
}

impl OwnConfig {
    /// Reads the configuration of the user with this home.
    #[must_use]
    pub fn read(home: &Path) -> OwnConfig {
        let parts = fs::read_dir(SYSTEM_PARTS).into_iter().flatten().flatten().map(|entry| entry.path());
        let named = [home.join(".ssh/config"), "/etc/ssh/ssh_config".into()];
        let mut own = OwnConfig::default();
        for path in named.into_iter().chain(parts) {
            // ssh itself reports a file that cannot be read.
            let Ok(text) = fs::read(&path) else { continue };
            own.sets_ciphers |= sets_ciphers(&String::from_utf8_lossy(&text));
        }
        own
    }
}

fn sets_ciphers(text: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split(|c: char| c.is_whitespace() || c == '=').filter(|word| !word.is_empty());
        match words.next().map(str::to_ascii_lowercase).as_deref() {
            Some("ciphers") => true,
            Some("include") => words.any(|file| !file.trim_matches('"').starts_with(SYSTEM_PARTS)),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_ciphers_count() {
        for (text, says) in [
            ("", false),
            ("# Ciphers aes128-ctr\nHost *\n  SendEnv LANG\nInclude /etc/ssh/ssh_config.d/*.conf\n", false),
            ("Host mds1\n\tciphers aes128-ctr\n", true),
            ("Ciphers=+aes128-cbc", true),
            ("Include ~/.ssh/more", true),
            ("CiphersOfOld x", false),
        ] {
            assert_eq!(sets_ciphers(text), says, "{text:?}");
        }
    }
}
