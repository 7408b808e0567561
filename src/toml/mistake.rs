//! What is wrong with a file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::model::escape::{clean, plain};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A line of a file, counted from 1; 0: the file as a whole.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(String),
    /// A flag on the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, 0) => write!(f, "{}", path.display()),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Environment(_) => f.write_str("environment"),
            Origin::Flag(_) => f.write_str("flag"),
        }
    }
}

/// One mistake: where it is, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub origin: Origin,
    /// The key, what is wrong with it and what is expected.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match &self.origin {
            Origin::Environment(name) | Origin::Flag(name) => format!("{name}: {}", self.message),
            origin => format!("{origin}: {}", self.message),
        };
        // A message may quote what was typed, and one mistake is one line.
        f.write_str(&clean(&plain(&line)))
    }
}

/// All mistakes, one a line when displayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

impl Mistakes {
    pub(crate) fn add(&mut self, origin: &Origin, message: impl Into<String>) {
        self.0.push(Mistake { origin: origin.clone(), message: message.into() });
    }

    /// Sorts by layer and line, as people read them; `main` is the main file.
    pub(crate) fn sort(&mut self, main: &Path) {
        self.0.sort_by(|a, b| rank(&a.origin, main).cmp(&rank(&b.origin, main)));
    }
}

fn rank<'o>(origin: &'o Origin, main: &Path) -> (u8, &'o Path, usize) {
    match origin {
        Origin::Default => (0, Path::new(""), 0),
        Origin::File(path, line) if path == main => (1, path, *line),
        Origin::File(path, line) => (2, path, *line),
        Origin::Environment(_) => (3, Path::new(""), 0),
        Origin::Flag(_) => (4, Path::new(""), 0),
    }
}

/// The known word that an unknown one was probably meant to be, as ` (did you mean 'x'?)`, or nothing.
pub(crate) fn suggestion<'k>(unknown: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let nearest = known.into_iter().map(|word| (distance(unknown, word), word)).min();
    match nearest {
        Some((distance, word)) if distance <= 2.max(unknown.len() / 3) => {
            format!(" (did you mean '{word}'?)")
        }
        _ => String::new(),
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
