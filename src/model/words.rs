//! The words by which people and machines know the values of an enumeration: one table each.

use std::fmt;

/// Main, where a host is named: as the source of a version, in options and in reports. No node may have this name.
pub const MAIN: &str = "main";

/// Text that is none of an enumeration's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord(pub String);

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown word {:?}", self.0)
    }
}

impl std::error::Error for UnknownWord {}

/// Implements `ALL`, `word` and `FromStr` from one table, and the conversions that
/// `#[serde(into = "&'static str", try_from = "String")]` asks for.
macro_rules! words {
    ($name:ident { $($variant:ident => $word:literal,)+ }) => {
        impl $name {
            /// Every value, in the order of the table.
            pub const ALL: [$name; [$($word),+].len()] = [$($name::$variant),+];

            /// The word in JSON, text, logs and the history.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::model::words::UnknownWord;

            fn from_str(text: &str) -> Result<$name, Self::Err> {
                let known = $name::ALL.into_iter().find(|value| value.word() == text);
                known.ok_or_else(|| $crate::model::words::UnknownWord(text.to_owned()))
            }
        }

        impl From<$name> for &'static str {
            fn from(value: $name) -> &'static str {
                value.word()
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::model::words::UnknownWord;

            fn try_from(text: String) -> Result<$name, Self::Error> {
                text.parse()
            }
        }
    };
}

pub(crate) use words;
