//! What this host tells of itself.

use std::path::{Path, PathBuf};

use super::Local;
use crate::disk::{Found, space};
use crate::model::Space;
use crate::node::endpoint::{Describe, Description, RootDescription};
use crate::node::error::{Attempt, NodeError, Refusal};
use crate::transfer::trash;
use crate::version;

impl Describe for Local {
    fn describe(&mut self, roots: &[PathBuf]) -> Result<Description, NodeError> {
        let roots = roots.iter().map(|root| self.describe_root(root)).collect();
        // Last: to look through a trash takes its time.
        Ok(Description {
            version: version::package(),
            now_ms: u64::try_from(self.since_epoch().as_millis()).unwrap_or(u64::MAX),
            read_only: false,
            roots,
        })
    }
}

impl Local {
    fn describe_root(&self, root: &Path) -> Attempt<RootDescription> {
        let refusal = |error: std::io::Error| Refusal::from(anyhow::Error::from(error));
        let found = Found::root(root).map_err(refusal)?;
        if let Some(accept) = &self.accept {
            accept.place(root, found.real()).map_err(Refusal::new)?;
        }
        match found {
            Found::Missing(_) => Ok(RootDescription { space: Space::UNKNOWN, trash: None }),
            Found::Root(held) => {
                let trash = trash::size(&held, &self.options.progress).map_err(refusal)?;
                Ok(RootDescription { space: space(&held), trash: Some(trash) })
            }
        }
    }
}
