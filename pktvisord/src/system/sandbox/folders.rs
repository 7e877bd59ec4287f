//! Folders that must stay readable so that a file can be replaced later.

use std::path::{Path, PathBuf};

/// Folders shared by many programs, besides those directly below `/` and home directories.
const SHARED: [&str; 4] = ["/usr/lib", "/usr/share", "/var/cache", "/var/lib"];
/// Maximum number of links followed on the way to a file, as in Linux (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Returns the folder of a file, and the folder of the file that the path resolves to: certificate
/// renewal, for example, replaces links.
///
/// If a directory link on the path lies beside its target, as `current -> 2026-11` does, the folder
/// of both is returned too: the link will point to a sibling next.
pub(super) fn of(file: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder(file)];
    all.extend(file.canonicalize().ok().map(|file| folder(&file)));
    let mut path = file.to_owned();
    for _ in 0..MOST_LINKS {
        let link = path.ancestors().find_map(|part| Some((part, part.read_link().ok()?)));
        let Some((link, target)) = link else { break };
        let place = match link.parent() {
            Some(place) if place != Path::new("") => place,
            _ => Path::new("."),
        };
        let target = place.join(target);
        path = match path.strip_prefix(link) {
            Ok(rest) if rest != Path::new("") => {
                all.extend(beside(place, &target));
                target.join(rest)
            }
            _ => target,
        };
    }
    all
}

/// Returns the folder of a file, or the file itself if the folder holds too much besides.
fn folder(file: &Path) -> PathBuf {
    let folder = match file.parent() {
        Some(folder) if folder == Path::new("") => Path::new("."),
        Some(folder) => folder,
        None => return file.to_owned(),
    };
    let real = folder.canonicalize().or_else(|_| std::path::absolute(folder));
    if real.is_ok_and(|real| is_large(&real)) { file.to_owned() } else { folder.to_owned() }
}

/// Returns the folder of a link if the target lies in the same folder and the folder is not too
/// large.
fn beside(place: &Path, target: &Path) -> Option<PathBuf> {
    let (place, target) = (place.canonicalize().ok()?, target.canonicalize().ok()?);
    (target.parent() == Some(&place) && !is_large(&place)).then_some(place)
}

fn is_large(folder: &Path) -> bool {
    folder.components().count() <= 2
        || folder.parent() == Some(Path::new("/home"))
        || SHARED.iter().any(|shared| folder == Path::new(shared))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn returns_folder_or_file_in_shared_folder() {
        for (file, expected) in [
            ("/etc/pktvisor/a.toml", "/etc/pktvisor"),
            ("a.toml", "."),
            ("x/a", "x"),
            ("/a", "/a"),
            ("/dev/null", "/dev/null"),
            ("/etc/../etc/a", "/etc/../etc/a"),
            ("/root/a", "/root/a"),
            ("/home/user/a", "/home/user/a"),
            ("/var/lib/a", "/var/lib/a"),
            ("/var/lib/pktvisor/a", "/var/lib/pktvisor"),
        ] {
            assert_eq!(folder(Path::new(file)), PathBuf::from(expected), "{file}");
        }
    }

    #[test]
    fn follows_links() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        let at = |name: &str| place.join(name);
        for folder in ["live", "archive/1", "data/2026-11", "far/2026-11"] {
            fs::create_dir_all(at(folder)).unwrap();
            fs::write(at(folder).join("file"), "").unwrap();
        }
        symlink("../archive/1/file", at("live/link")).unwrap();
        assert_eq!(of(&at("live/link")), [at("live"), at("archive/1")]);
        // Kubernetes and database updates renew files this way: the next version lies beside.
        symlink("2026-11", at("data/current")).unwrap();
        let expected = [at("data/current"), at("data/2026-11"), at("data")];
        assert_eq!(of(&at("data/current/file")), expected);
        symlink(at("far/2026-11"), at("data/far")).unwrap();
        let expected = [at("data/far"), at("far/2026-11")];
        assert_eq!(of(&at("data/far/file")), expected);
        symlink("/dev", at("data/dev")).unwrap();
        assert_eq!(of(&at("data/dev/null")), [at("data/dev/null"), PathBuf::from("/dev/null")]);
        // A link to itself, and a missing file.
        symlink("loop", at("data/loop")).unwrap();
        assert_eq!(of(&at("data/loop")), [at("data")]);
        assert_eq!(of(&at("none/file")), [at("none")]);
    }
}
