//! Secrets in values that are shown.

/// Shown in the place of a secret.
pub(super) const MASK: &str = "***";
/// Parts of names of URL parameters whose values are secrets, such as libpq's `sslpassword`.
const SECRET: [&str; 5] = ["pass", "token", "secret", "key", "auth"];

/// Whether the value of something with this name is a secret.
pub(super) fn is_secret(name: &str) -> bool {
    SECRET.iter().any(|part| name.to_ascii_lowercase().contains(part))
}

/// A URL without its secrets. It rather hides too much than too little.
#[must_use]
pub(crate) fn masked(url: &str) -> String {
    // libpq's other form, `host=… password=…`, has quoting of its own.
    let Some((scheme, rest)) = url.split_once("://") else { return MASK.to_owned() };
    // A password may hold '@' itself: the last one ends it.
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:{MASK}@{host}"),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    };
    let Some((place, query)) = rest.split_once('?') else { return format!("{scheme}://{rest}") };
    let parameter = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) if is_secret(name) => {
            format!("{name}={MASK}")
        }
        _ => parameter.to_owned(),
    };
    let query: Vec<_> = query.split('&').map(parameter).collect();
    format!("{scheme}://{place}?{}", query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn no_secret_is_shown() {
        for (url, shown) in [
            ("postgresql:///asterisk", "postgresql:///asterisk"),
            ("postgresql://u@db/x", "postgresql://u@db/x"),
            ("postgresql://u:secret@db:5432/x", "postgresql://u:***@db:5432/x"),
            ("postgresql://u:se@cr/et?@db/x", "postgresql://u:***@db/x"),
            (
                "postgresql://db/x?sslpassword=secret&user=u&password=secret",
                "postgresql://db/x?sslpassword=***&user=u&password=***",
            ),
            ("host=db password='secret'", "***"),
            ("https://u:secret@h/x", "https://u:***@h/x"),
            ("https://h/x?API_KEY=secret&page=1", "https://h/x?API_KEY=***&page=1"),
        ] {
            assert_eq!(masked(url), shown);
        }
    }
}
