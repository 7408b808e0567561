//! One line: written for a Main, and read as sshd(8) does.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use ssh_key::PublicKey;
use ssh_key::public::KeyData;

/// The comment of our lines begins so, and ends with Main's name.
const COMMENT: &str = "xds-sync from ";

/// The line that lets a Main log in, to run the agent and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLine {
    /// Main's key.
    pub key: KeyData,
    /// This program: the only one that the key may run, as `PROGRAM agent`.
    pub program: PathBuf,
    /// Hosts that the key may be used from: a pattern list, as in sshd(8) `from=`.
    pub from: Option<String>,
    /// Main as the administrator called it: HOST or HOST:PORT.
    pub main: String,
}

impl KeyLine {
    /// The line, without its end.
    pub fn line(&self) -> anyhow::Result<String> {
        let program = self.program.to_str().filter(|program| !program.contains(char::is_control));
        let program = program.with_context(|| {
            format!("{} cannot stand in authorized_keys: install it elsewhere", self.program.display())
        })?;
        // sshd hands the command to the user's shell.
        let command = format!("{} agent", shell_word(program));
        let mut options = format!("restrict,command=\"{}\"", command.replace('"', "\\\""));
        if let Some(from) = &self.from {
            if !is_pattern(from) {
                bail!(
                    "'{from}' is not a pattern list for from=: give host names, addresses or CIDR ranges, separated by commas"
                );
            }
            options.push_str(&format!(",from=\"{from}\""));
        }
        let key = PublicKey::new(self.key.clone(), format!("{COMMENT}{}", self.main));
        Ok(format!("{options} {}", key.to_openssh().context("writing a public key as text")?))
    }
}

/// `word`, quoted for a shell where it must be.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Host patterns separated by commas, as sshd(8) takes them in `from=`.
fn is_pattern(from: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:/*?!,%[]".contains(c);
    !from.is_empty() && from.chars().all(allowed)
}

/// What a line says that sshd takes for a key.
pub(super) struct Parsed<'a> {
    /// With the blanks before the key; empty where there are none.
    pub(super) options: &'a str,
    /// `None` for a key of an algorithm that is not known here.
    pub(super) key: Option<KeyData>,
    pub(super) comment: &'a str,
}

impl<'a> Parsed<'a> {
    pub(super) fn parse(line: &'a [u8]) -> Option<Parsed<'a>> {
        // A comment may be in any encoding; those of our lines are UTF-8.
        let text = std::str::from_utf8(line).ok()?.trim_matches([' ', '\t']);
        if text.is_empty() || text.starts_with('#') {
            return None;
        }
        let (options, rest) = text.split_at(text.len() - after_options(text).len());
        Parsed::after_options("", text).or_else(|| Parsed::after_options(options, rest))
    }

    fn after_options(options: &'a str, text: &'a str) -> Option<Parsed<'a>> {
        let (algorithm, rest) = split_word(text)?;
        let (key, comment) = split_word(rest).unwrap_or((rest, ""));
        let is_key = ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| algorithm.starts_with(kind))
            && key.starts_with("AAAA")
            && !algorithm.contains(['"', ',', '=']);
        let parsed = PublicKey::from_openssh(&format!("{algorithm} {key}"));
        is_key.then(|| Parsed { options, key: parsed.ok().map(|key| key.key_data().clone()), comment })
    }

    /// Whether this program wrote the line, or the key may run nothing but its agent.
    pub(super) fn is_ours(&self) -> bool {
        let runs_agent =
            |options: &str| options.contains("command=\"") && options.contains("xds-sync agent\"");
        self.main().is_some() || runs_agent(self.options)
    }

    /// Whether both are lines of ours for the same Main: what a rotation puts beside a line, or leaves alone.
    pub(super) fn is_of_same_main(&self, other: &Parsed<'_>) -> bool {
        let same = match (self.main(), other.main()) {
            (Some(main), Some(other)) => super::same_host(main, other),
            (None, None) => self.comment == other.comment,
            _ => false,
        };
        self.is_ours() && other.is_ours() && same
    }

    /// The Main of the line, if it is one of ours.
    pub(super) fn main(&self) -> Option<&'a str> {
        self.comment.strip_prefix(COMMENT).map(str::trim).filter(|main| !main.is_empty())
    }
}

fn split_word(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = text.split_once([' ', '\t'])?;
    Some((word, rest.trim_start_matches([' ', '\t'])))
}

/// What follows the options: they end at the first blank outside of quotes, in which `\"` is a quote.
fn after_options(text: &str) -> &str {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            ' ' | '\t' if !quoted => return text.get(at..).unwrap_or("").trim_start_matches([' ', '\t']),
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    ""
}
