//! Whether a store can do what is needed of it.

use super::{Created, Objects, StoreError};

/// What was tried, and what is wrong, if anything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// What is needed.
    pub what: &'static str,
    /// Why it is not to be had.
    pub wrong: Option<String>,
}

/// Tries everything below a name that nobody else uses, and removes it.
pub fn check(objects: &dyn Objects, id: &str) -> Result<Vec<Tried>, StoreError> {
    let name = format!("v1/check/{id}.xds");
    let (one, two) = (format!("one {id}"), format!("two {id}"));
    let mut tried = Vec::new();
    let mut told = |what, is_good: bool, wrong: &str| {
        tried.push(Tried { what, wrong: (!is_good).then(|| wrong.to_owned()) });
    };
    let made = objects.create(&name, one.as_bytes())?;
    told("creating an object", made == Created::New, "it says that a new name is taken");
    let again = objects.create(&name, two.as_bytes())?;
    let read = objects.get(&name, 4096)?;
    // A service that ignores the condition has replaced it.
    told(
        "creating it only once",
        again == Created::There && read.as_deref() == Some(one.as_bytes()),
        "an object that is there was created once more: two Mains could both publish; use another service, or let all \
         writes go through the hub",
    );
    objects.put(&name, two.as_bytes())?;
    let read = objects.get(&name, 4096)?;
    told(
        "replacing it",
        read.as_deref() == Some(two.as_bytes()),
        "what was written last is not what is read",
    );
    let listed = objects.list("v1/check/")?.contains(&name);
    told("listing it", listed, "an object that is there is not listed");
    objects.delete(&name)?;
    told("deleting it", objects.get(&name, 4096)?.is_none(), "what was deleted is still there");
    Ok(tried)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::objects::memory::Memory;

    /// A service that knows no conditions.
    #[derive(Default)]
    struct Careless(Memory);

    impl Objects for Careless {
        fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
            self.0.get(name, limit)
        }

        fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
            self.0.put(name, bytes).map(|()| Created::New)
        }

        fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
            self.0.put(name, bytes)
        }

        fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
            self.0.list(prefix)
        }

        fn delete(&self, name: &str) -> Result<(), StoreError> {
            self.0.delete(name)
        }

        fn place(&self) -> &str {
            "careless"
        }
    }

    #[test]
    fn a_store_that_ignores_conditions_is_noticed() {
        let wrong = |objects: &dyn Objects| -> Vec<&str> {
            let tried = check(objects, "01J").unwrap();
            tried.into_iter().filter(|tried| tried.wrong.is_some()).map(|tried| tried.what).collect()
        };
        assert!(wrong(&Memory::default()).is_empty());
        assert_eq!(wrong(&Careless::default()), ["creating it only once"]);
    }
}
