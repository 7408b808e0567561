//! What ssh can connect to.

use std::net::IpAddr;
use std::str::FromStr as _;

use crate::model::steps::step;
use crate::toml::Raw;
use crate::toml::{Converted, text};

pub(super) fn host(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    if is_host(&text) {
        Ok(text)
    } else {
        Err(format!("expected a host name or an IP address, found '{text}'"))
    }
}

/// Whether a text looks like what ssh can connect to: an IP address or a DNS name.
#[must_use]
pub(crate) fn is_host(text: &str) -> bool {
    // fe80::1%eth0 names the interface too.
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    if let Ok(address) = IpAddr::from_str(address) {
        return zone.is_none_or(|zone| address.is_ipv6() && is_label(zone));
    }
    // What is all digits and dots was meant to be an address.
    zone.is_none()
        && text.len() <= 253
        && text.split('.').all(is_label)
        && !text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

fn is_label(label: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !label.is_empty() && label.len() <= 63 && label.chars().all(allowed) && !label.starts_with('-')
}

/// The same for every way to write an address: two nodes at one address are one host, synchronised twice.
#[must_use]
pub(crate) fn canonical(address: &str) -> String {
    step();
    match IpAddr::from_str(address) {
        Ok(address) => address.to_string(),
        // DNS does not tell case apart.
        Err(_) => address.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["10.0.0.1", "::1", "fe80::1%eth0", "mds1", "mds-1.example.org", "xn--bcher-kva.example"]
        {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "",
            "-oProxyCommand=x",
            "10.0.0",
            "999.1.1.1",
            "a b",
            "a;b",
            "$(x)",
            "a/b",
            "1.2.3.4%x",
            "user@h",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn one_address_is_written_in_many_ways() {
        for (a, b) in [("::1", "0:0:0:0:0:0:0:1"), ("MDS1.example.org", "mds1.Example.org")] {
            assert_eq!(canonical(a), canonical(b));
        }
        assert_ne!(canonical("10.0.0.1"), canonical("10.0.0.11"));
    }
}
