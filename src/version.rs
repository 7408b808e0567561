//! Which xds-sync this is.

/// The lowest and the highest version of the protocol that this program speaks with its other end.
pub(crate) const PROTOCOL: (u16, u16) = (1, 1);

/// `0.1.0 (7aeae63)`, as both ends tell each other: with the commit that it was built from, where whoever builds it says
/// so, as `scripts/deb` does.
#[must_use]
pub(crate) fn package() -> String {
    told(commit().into_iter())
}

/// `0.1.0 (7aeae63, protocol 1)`, for people.
#[must_use]
pub(crate) fn line() -> String {
    let protocol = match PROTOCOL {
        (lowest, highest) if lowest == highest => format!("protocol {lowest}"),
        (lowest, highest) => format!("protocol {lowest} to {highest}"),
    };
    told(commit().into_iter().chain([protocol]))
}

fn commit() -> Option<String> {
    option_env!("XDS_SYNC_COMMIT").filter(|commit| !commit.is_empty()).map(str::to_owned)
}

fn told(notes: impl Iterator<Item = String>) -> String {
    let notes: Vec<String> = notes.collect();
    let version = env!("CARGO_PKG_VERSION");
    if notes.is_empty() { version.to_owned() } else { format!("{version} ({})", notes.join(", ")) }
}
