//! Files that are not part of the project: captures with known answers, and databases.

use std::path::PathBuf;

use super::tool::skipped;

/// Returns the folder that `PKTVISOR_CAPTURES` names.
pub fn captures() -> Option<PathBuf> {
    let folder = std::env::var_os("PKTVISOR_CAPTURES").map(PathBuf::from);
    if folder.is_none() {
        skipped("PKTVISOR_CAPTURES does not name a folder of captures with answers");
    }
    folder
}

/// Returns MaxMind's test databases of places and of autonomous systems, in the folder `geo` beside
/// the captures.
pub fn databases() -> Option<[String; 2]> {
    let folder = captures()?.join("../geo");
    let files = ["GeoIP2-City-Test.mmdb", "GeoIP2-ISP-Test.mmdb"].map(|name| folder.join(name));
    if let Some(absent) = files.iter().find(|file| !file.exists()) {
        skipped(&format!("there is no {}", absent.display()));
        return None;
    }
    Some(files.map(|file| file.to_str().expect("a path in UTF-8").to_owned()))
}
