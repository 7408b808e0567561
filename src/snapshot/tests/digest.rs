//! The digest of what decides which paths are kept out.

use super::*;

fn globs(globs: &[&str]) -> Vec<String> {
    globs.iter().map(|&glob| glob.to_owned()).collect()
}

#[test]
fn it_depends_on_what_is_kept_out_and_on_nothing_else() {
    let site = Site::new();
    let root = site.spec.root.clone();
    let spec = ScanSpec {
        exclude: globs(&["*.bak", "cache/"]),
        other_roots: vec![root.join("recordings"), root.join("moh"), "/elsewhere".into()],
        ..site.spec.clone()
    };
    let digest = spec.rules_digest();
    let nested = |names: &[&str]| names.iter().map(|name| root.join(name)).collect::<Vec<_>>();
    for (what, same, other) in [
        ("globs in another order", true, ScanSpec { exclude: globs(&["cache/", "*.bak"]), ..spec.clone() }),
        ("a glob twice", true, ScanSpec { exclude: globs(&["*.bak", "*.bak", "cache/"]), ..spec.clone() }),
        ("a glob less", false, ScanSpec { exclude: globs(&["*.bak"]), ..spec.clone() }),
        ("another glob", false, ScanSpec { exclude: globs(&["*.bak", "cache"]), ..spec.clone() }),
        ("globs joined", false, ScanSpec { exclude: globs(&["*.bakcache/"]), ..spec.clone() }),
        (
            "roots in another order",
            true,
            ScanSpec { other_roots: nested(&["moh", "recordings"]), ..spec.clone() },
        ),
        ("a nested root less", false, ScanSpec { other_roots: nested(&["recordings"]), ..spec.clone() }),
        (
            "a nested root more",
            false,
            ScanSpec { other_roots: nested(&["recordings", "moh", "x/y"]), ..spec.clone() },
        ),
        ("no nested root", false, ScanSpec { other_roots: Vec::new(), ..spec.clone() }),
        (
            "a glob instead of a root",
            false,
            ScanSpec {
                exclude: globs(&["*.bak", "cache/", "moh"]),
                other_roots: nested(&["recordings"]),
                ..spec.clone()
            },
        ),
        ("another settle time", true, ScanSpec { settle: Duration::from_secs(77), ..spec.clone() }),
        ("another name", true, ScanSpec { directory: "other".to_owned(), checksum: true, ..spec.clone() }),
    ] {
        assert_eq!(other.rules_digest() == digest, same, "{what}");
    }
}

/// Roots are compared as they lie inside of this one, wherever that is.
#[test]
fn it_is_the_same_where_all_lies_elsewhere() {
    let (here, there) = (Site::new(), Site::new());
    let spec = |site: &Site| ScanSpec { other_roots: vec![site.spec.root.join("a/b")], ..site.spec.clone() };
    assert_eq!(spec(&here).rules_digest(), spec(&there).rules_digest());
}

/// It is remembered between versions of this package.
#[test]
fn its_encoding_is_fixed() {
    let site = Site::new();
    let spec = ScanSpec {
        exclude: globs(&["*.bak", "a"]),
        other_roots: vec![site.spec.root.join("sub/dir")],
        ..site.spec.clone()
    };
    let number = |number: u64| number.to_le_bytes();
    let mut bytes = vec![1];
    for (count, items) in [(2, &["*.bak", "a"][..]), (1, &["sub/dir"])] {
        bytes.extend(number(count));
        for item in items {
            bytes.extend(number(item.len() as u64));
            bytes.extend(item.as_bytes());
        }
    }
    assert_eq!(spec.rules_digest(), Digest(blake3::hash(&bytes).into()));
}
