//! What a node shows to the hub: its name and the time, signed with the key that Main knows of it. It is good for some
//! minutes, so that nothing which a log or a proxy keeps is good for long.

use std::path::Path;
use std::time::{Duration, SystemTime};

use ssh_key::PublicKey;

use super::StoreError;
use super::names::is_name;
use crate::model::{off, rfc3339};
use crate::signing;

const NAMESPACE: &str = "xds-sync-hub@v1";
const SCHEME: &str = "XDS-Node";
/// How far the clocks of a node and of the hub may be apart, the age of the pass included.
const GOOD_FOR: Duration = Duration::from_secs(600);
/// Characters in a line of a signature in PEM.
const LINE: usize = 70;
/// Longest signature: that of an RSA key of 16384 bits has half of it.
const MAX_SIGNATURE: usize = 8192;
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// What `Authorization` says of the node with this name: `XDS-Node NAME SECONDS SIGNATURE`.
pub(crate) fn make(identity: &Path, name: &str, now: SystemTime) -> Result<String, StoreError> {
    let said = format!("{name} {}", seconds(now));
    let pem =
        signing::sign(identity, NAMESPACE, said.as_bytes()).map_err(|error| StoreError::local(&error))?;
    let signature: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    Ok(format!("{SCHEME} {said} {signature}"))
}

/// The name that a pass is made out to, where it is good; else why it is not. `key_of` knows the keys of nodes.
pub(crate) fn check(
    pass: &str,
    now: SystemTime,
    key_of: impl FnOnce(&str) -> Option<PublicKey>,
) -> Result<String, String> {
    let parts: Vec<&str> = pass.split(' ').collect();
    let [SCHEME, name, time, signature] = parts[..] else {
        return Err("expected the pass of a node: XDS-Node NAME SECONDS SIGNATURE".to_owned());
    };
    let known = Some(name).filter(|name| is_name(name)).and_then(key_of);
    let key = known.ok_or("this Main has no node with that name and via = \"store\"")?;
    let made = time.parse::<u64>().map_err(|_| "its time is no number")?;
    if made.abs_diff(seconds(now)) > GOOD_FOR.as_secs() {
        return Err(not_of_this_time(made, now));
    }
    if signature.len() > MAX_SIGNATURE || !signature.is_ascii() {
        return Err("its signature is none".to_owned());
    }
    let mut pem = format!("{BEGIN}\n");
    for line in signature.as_bytes().chunks(LINE) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str(END);
    let said = format!("{name} {time}");
    match signing::signer(&pem, NAMESPACE, said.as_bytes(), std::slice::from_ref(&key)) {
        Ok(Some(_)) => Ok(name.to_owned()),
        Ok(None) | Err(_) => {
            Err("it is not signed with the key that this Main knows of that node".to_owned())
        }
    }
}

/// Whose clock is wrong nobody can tell from here.
fn not_of_this_time(made: u64, now: SystemTime) -> String {
    let Some(node) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(made)) else {
        return "its time is none".to_owned();
    };
    format!(
        "the clocks are wrong: it is {} by the node's and {} by Main's, the node's is {} Main's and may be {} minutes off; set the \
         clock that is wrong",
        rfc3339(node),
        rfc3339(now),
        off(node, now),
        GOOD_FOR.as_secs() / 60
    )
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::envelope::tests::Keys;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_pass_is_good_for_its_node_and_its_time() {
        let keys = Keys::new();
        let [(identity, own), (other, _)] = [1, 2].map(|seed| keys.pair(seed));
        let pass = make(&identity, "mds1", at(10_000)).unwrap();
        let key_of = |name: &str| (name == "mds1").then(|| own.clone());
        for now in [9_500, 10_000, 10_600] {
            assert_eq!(check(&pass, at(now), key_of), Ok("mds1".to_owned()), "{now}");
        }
        for now in [0, 9_399, 10_601, 1 << 40] {
            assert!(check(&pass, at(now), key_of).unwrap_err().contains("clocks"), "{now}");
        }
        let a_day = 24 * 3600;
        let ahead = make(&identity, "mds1", at(10_000 + a_day + 7)).unwrap();
        for (pass, now, says) in [
            (&ahead, 10_000, "1970-01-02T02:46:47Z by the node's and 1970-01-01T02:46:40Z by Main's"),
            (&ahead, 10_000, "the node's is 1day ahead of Main's"),
            (&pass, 10_000 + a_day, "the node's is 1day behind Main's"),
        ] {
            let why = check(pass, at(now), key_of).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
        let beyond = pass.replacen("10000", &u64::MAX.to_string(), 1);
        assert!(check(&beyond, at(10_000), key_of).is_err());
        for (wrong, says) in [
            (make(&other, "mds1", at(10_000)).unwrap(), "not signed"),
            (pass.replacen("mds1", "mds2", 1), "no node"),
            (pass.replacen("10000", "10001", 1), "not signed"),
            (pass.replacen("mds1", "../mds1", 1), "no node"),
            (pass.replacen("XDS-Node", "Bearer", 1), "expected the pass"),
            (format!("{pass} x"), "expected the pass"),
            (pass[..pass.len() - 9].to_owned(), "not signed"),
            (String::new(), "expected the pass"),
        ] {
            let why = check(&wrong, at(10_000), key_of).unwrap_err();
            assert!(why.contains(says), "{wrong}: {why}");
        }
    }
}
