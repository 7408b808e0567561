//! A store in memory: what the protocol's own tests need of one, and no more.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::{Created, Objects, StoreError};

/// Objects by name.
#[derive(Debug, Default)]
pub(crate) struct Memory(pub(crate) Mutex<BTreeMap<String, Vec<u8>>>);

impl Memory {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Objects for Memory {
    fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.lock().get(name).cloned();
        match found {
            Some(bytes) if bytes.len() as u64 > limit => {
                Err(StoreError::Tampered(format!("{name} is too long")))
            }
            found => Ok(found),
        }
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        let mut all = self.lock();
        if all.contains_key(name) {
            return Ok(Created::There);
        }
        all.insert(name.to_owned(), bytes.to_vec());
        Ok(Created::New)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.lock().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.lock().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.lock().remove(name);
        Ok(())
    }

    fn place(&self) -> &str {
        "memory"
    }
}
