//! WSO2's `workers-list.txt`: lines of `[user@]host[:path]`, which its scripts hand to rsync.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::config::{self, Directory};

/// A host of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// The first line that names it, counted from 1.
    pub line: usize,
    /// Name or address.
    pub host: String,
    /// Whom to log in as, when it says so.
    pub user: Option<String>,
    /// The paths of all its lines: tenants have lines of their own.
    pub paths: Vec<String>,
}

/// The hosts of a list in its order, and which lines name no host, counted from 1.
#[must_use]
pub fn parse(text: &str) -> (Vec<Worker>, Vec<usize>) {
    let (mut workers, mut bad): (Vec<Worker>, _) = (Vec::new(), Vec::new());
    let mut known: HashMap<String, usize> = HashMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let Some((user, host, path)) = parts(text) else {
            bad.push(line);
            continue;
        };
        let index = *known.entry(config::canonical(host)).or_insert(workers.len());
        match workers.get_mut(index) {
            Some(known) => known.paths.extend(path.map(str::to_owned)),
            None => workers.push(Worker {
                line,
                host: host.to_owned(),
                user: user.map(str::to_owned),
                paths: path.map(str::to_owned).into_iter().collect(),
            }),
        }
    }
    (workers, bad)
}

/// `[user@]host[:path]`, as rsync(1) and scp(1) read it.
fn parts(line: &str) -> Option<(Option<&str>, &str, Option<&str>)> {
    // A path may hold '@' as well.
    let (user, rest) = match line.split_once('@') {
        Some((user, rest)) if !user.contains([':', '/']) => (Some(user), rest),
        _ => (None, line),
    };
    let (host, path) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None if rest.parse::<IpAddr>().is_ok() => (rest, None),
        None => rest.split_once(':').map_or((rest, None), |(host, path)| (host, Some(path))),
    };
    let is_right = config::is_host(host) && user.is_none_or(config::is_user);
    is_right.then_some((user, host, path.filter(|path| !path.is_empty())))
}

/// Which directories the paths of a host are for, and where they are there: those whose last part is the same,
/// such as `…/repository/deployment/server` and `…/repository/tenants`. A path that is no root, such as `~/wso2`,
/// or is for no directory or for several, says nothing.
#[must_use]
pub(crate) fn roots(paths: &[String], directories: &[Directory]) -> BTreeMap<String, PathBuf> {
    let mut roots = BTreeMap::new();
    for path in paths.iter().filter(|path| config::is_root(path)) {
        // Without a slash at the end.
        let path: PathBuf = Path::new(path).components().collect();
        let meant: Vec<_> =
            directories.iter().filter(|directory| directory.path.file_name() == path.file_name()).collect();
        if let [directory] = meant[..]
            && directory.path != path
        {
            roots.entry(directory.name.clone()).or_insert(path);
        }
    }
    roots
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn each_host_is_named_once_with_all_its_paths() {
        let text = "# workers\nroot@10.0.0.11:/opt/wso2/server\n10.0.0.12:/opt/a@b # second\nmds3\n\
                    other@10.0.0.11:/opt/wso2/tenants\nroot@[fe80::1]:/opt\nfe80::2\nMDS3:\n\
                    -oProxyCommand=x:/\n@:\n-l@mds4:/\n";
        let (workers, bad) = parse(text);
        let told: Vec<_> = workers
            .iter()
            .map(|worker| (worker.line, &*worker.host, worker.user.as_deref(), worker.paths.join(" ")))
            .collect();
        let root = Some("root");
        let paths = |paths: &str| paths.to_owned();
        assert_eq!(
            told,
            [
                (2, "10.0.0.11", root, paths("/opt/wso2/server /opt/wso2/tenants")),
                (3, "10.0.0.12", None, paths("/opt/a@b")),
                (4, "mds3", None, paths("")),
                (6, "fe80::1", root, paths("/opt")),
                (7, "fe80::2", None, paths("")),
            ]
        );
        assert_eq!(bad, [9, 10, 11]);
    }

    #[test]
    fn paths_are_for_the_directory_with_the_same_last_part() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let directory =
            |name: &str, path: &str| format!("[[directory]]\nname = \"{name}\"\npath = \"{path}\"\n");
        let text = directory("apis", "/opt/wso2/server")
            + &directory("tenants", "/opt/wso2/tenants")
            + &directory("one", "/srv/one/same")
            + &directory("two", "/srv/two/same");
        std::fs::write(&file, text).unwrap();
        let sources =
            Sources { file, host_name: "main".to_owned(), home: "/root".into(), ..Sources::default() };
        let directories = load(&sources).unwrap().config.directories;
        for (paths, expected) in [
            (&["/srv/server/", "/srv/tenants", "/else/tenants"][..], "apis=/srv/server tenants=/srv/tenants"),
            (&["/opt/wso2/server"], ""),
            (&["~/server", "server", "/", "/srv/../server", "/srv/elsewhere"], ""),
            (&["/srv/same"], ""),
        ] {
            let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
            let roots = roots(&paths, &directories);
            let told: Vec<_> =
                roots.iter().map(|(name, path)| format!("{name}={}", path.display())).collect();
            assert_eq!(told.join(" "), expected, "{paths:?}");
        }
    }
}
