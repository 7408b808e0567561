//! Several objects in one answer of a hub: for each, in the order in which they were named, a line with its length, or `none`
//! where there is none, and its bytes.

use super::StoreError;

/// Most objects that one request may name.
pub(crate) const MOST: usize = 64;
/// Most bytes of one of them. Who asks knows how long most objects are, and asks for longer ones alone.
pub(crate) const LONGEST: u64 = 1 << 20;
/// Longest line: a length.
pub(crate) const LINE: u64 = 24;

const NONE: &str = "none";

/// An answer with these objects.
pub(crate) fn write(objects: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut answer = Vec::new();
    for object in objects {
        match object {
            Some(bytes) => {
                answer.extend(format!("{}\n", bytes.len()).bytes());
                answer.extend_from_slice(bytes);
            }
            None => answer.extend(format!("{NONE}\n").bytes()),
        }
    }
    answer
}

/// The objects of an answer to a request for `wanted`, none of which may be longer than was said there.
pub(crate) fn read(mut answer: &[u8], wanted: &[(&str, u64)]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
    let malformed = |what: &str| StoreError::Tampered(format!("an answer with several objects {what}"));
    let mut objects = Vec::with_capacity(wanted.len());
    for (name, limit) in wanted {
        let end = answer.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| malformed(&format!("ends before {name}")))?;
        let (line, rest) = (&answer[..end], &answer[end + 1..]);
        if line == NONE.as_bytes() {
            objects.push(None);
            answer = rest;
            continue;
        }
        let length = std::str::from_utf8(line).ok().and_then(|line| line.parse::<u64>().ok());
        let length = length.ok_or_else(|| malformed(&format!("has no length of {name}")))?;
        if length > *limit {
            return Err(StoreError::Tampered(format!(
                "{name} has more than the {limit} bytes that it may have"
            )));
        }
        let bytes = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
        let (object, rest) = bytes.ok_or_else(|| malformed(&format!("ends within {name}")))?;
        objects.push(Some(object.to_vec()));
        answer = rest;
    }
    match answer.is_empty() {
        true => Ok(objects),
        false => Err(malformed("goes on after the last one")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_as_it_should_be_is_refused() {
        let wanted = [("a", 3), ("b", 3)];
        for (answer, is_fine) in [
            (&b"3\nabcnone\n"[..], true),
            (b"none\n0\n", true),
            (b"3\nabc", false),
            (b"3\nab", false),
            (b"4\nabcdnone\n", false),
            (b"-1\nnone\n", false),
            (b"none\nnone\nnone\n", false),
            (b"99999999999999999999999\nnone\n", false),
            (b"", false),
        ] {
            let read = read(answer, &wanted);
            assert_eq!(read.is_ok(), is_fine, "{:?}: {read:?}", String::from_utf8_lossy(answer));
            assert!(is_fine || matches!(read, Err(StoreError::Tampered(_))));
        }
    }

    proptest! {
        #[test]
        fn read_undoes_write(objects in prop::collection::vec(any::<Option<Vec<u8>>>(), 0..8)) {
            let wanted: Vec<(&str, u64)> = objects.iter().map(|_| ("x", 1000)).collect();
            prop_assert_eq!(read(&write(&objects), &wanted).unwrap(), objects);
        }

        #[test]
        fn any_bytes_are_an_answer_or_refused(bytes: Vec<u8>) {
            let _ = read(&bytes, &[("x", 10), ("y", 10)]);
        }
    }
}
