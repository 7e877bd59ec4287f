//! Locations and autonomous systems of addresses, from MaxMind databases.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maxminddb::Reader;
use pktvisor_common::sketch::key::FleetKey;
use serde::Deserialize;

/// The name of an address that a database does not know.
pub const UNKNOWN: &str = "Unknown";
/// Records cached by their offset in the database. The cache is cleared when full.
const CACHE: usize = 16_384;

/// Reasons for rejecting a database.
#[derive(Debug, thiserror::Error)]
pub enum GeoError {
    /// The file cannot be read, or its structure is broken.
    #[error("cannot use the {kind} database {}: {source}", path.display())]
    Broken {
        /// `city` or `ASN`.
        kind: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The error of the reader.
        source: maxminddb::MaxMindDbError,
    },
    /// The database has another type.
    #[error(
        "{} is a database of type \"{found}\", but --geo-{} requires {wanted}",
        path.display(), kind.to_lowercase()
    )]
    WrongType {
        /// `city` or `ASN`.
        kind: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Type in the metadata of the database.
        found: String,
        /// Accepted types, as text for the message.
        wanted: &'static str,
    },
}

/// The databases, loaded and verified.
#[derive(Debug, Default)]
pub struct GeoDatabases {
    city: Option<Reader<Vec<u8>>>,
    asn: Option<Reader<Vec<u8>>>,
}

fn open(
    kind: &'static str,
    path: &Path,
    types: &[&str],
    wanted: &'static str,
) -> Result<Reader<Vec<u8>>, GeoError> {
    let broken = |source| GeoError::Broken { kind, path: path.to_owned(), source };
    let reader = Reader::open_readfile(path).map_err(broken)?;
    let found = &reader.metadata().database_type;
    if !types.iter().any(|wanted| found.contains(wanted)) {
        return Err(GeoError::WrongType {
            kind,
            path: path.to_owned(),
            found: found.clone(),
            wanted,
        });
    }
    reader.verify().map_err(broken)?;
    Ok(reader)
}

impl GeoDatabases {
    /// Loads the databases that are configured.
    ///
    /// # Errors
    /// Returns [`GeoError`] if one is missing, of the wrong type or corrupt.
    pub fn open(city: Option<&Path>, asn: Option<&Path>) -> Result<Self, GeoError> {
        let city = city
            .map(|path| {
                let types = ["City", "Country", "Enterprise"];
                open("city", path, &types, "a database of locations, such as GeoLite2-City")
            })
            .transpose()?;
        let asn = asn
            .map(|path| {
                open(
                    "ASN",
                    path,
                    &["ASN", "ISP"],
                    "a database of autonomous systems, such as GeoLite2-ASN or GeoIP2-ISP",
                )
            })
            .transpose()?;
        Ok(Self { city, asn })
    }
}

/// A name and its key in the sketches.
#[derive(Clone, Debug)]
pub struct Named {
    /// Hash of the name.
    pub key: u64,
    /// The name.
    pub name: Arc<str>,
}

impl Named {
    fn new(name: &str, key: FleetKey) -> Self {
        Self { key: key.hash(name.as_bytes()), name: name.into() }
    }
}

/// Looks up addresses and caches the names of the records that it finds.
#[derive(Debug)]
pub struct Geo {
    databases: Arc<GeoDatabases>,
    key: FleetKey,
    unknown: Named,
    places: HashMap<usize, Named>,
    systems: HashMap<usize, Named>,
}

impl Geo {
    /// Creates a lookup in `databases` that hashes names with `key`.
    pub fn new(databases: Arc<GeoDatabases>, key: FleetKey) -> Self {
        let unknown = Named::new(UNKNOWN, key);
        Self { databases, key, unknown, places: HashMap::new(), systems: HashMap::new() }
    }

    /// Returns the location of an address, `continent/country/subdivision/city`; `None` without a database.
    pub fn place(&mut self, address: IpAddr) -> Option<Named> {
        let reader = self.databases.city.as_ref()?;
        let cache = &mut self.places;
        Some(find(reader, address, cache, self.key, Place::name).unwrap_or(self.unknown.clone()))
    }

    /// Returns the AS of an address, `number/organization`; `None` without a database.
    pub fn system(&mut self, address: IpAddr) -> Option<Named> {
        let reader = self.databases.asn.as_ref()?;
        let cache = &mut self.systems;
        Some(find(reader, address, cache, self.key, System::name).unwrap_or(self.unknown.clone()))
    }
}

fn find<'a, R: Deserialize<'a>>(
    reader: &'a Reader<Vec<u8>>,
    address: IpAddr,
    cache: &mut HashMap<usize, Named>,
    key: FleetKey,
    name: impl Fn(&R) -> Option<String>,
) -> Option<Named> {
    let result = reader.lookup(address).ok()?;
    let offset = result.offset()?;
    if let Some(named) = cache.get(&offset) {
        return Some(named.clone());
    }
    let record: R = result.decode().ok()??;
    let named = Named::new(&name(&record)?, key);
    if cache.len() >= CACHE {
        cache.clear();
    }
    cache.insert(offset, named.clone());
    Some(named)
}

/// The fields read from a city record. Other fields are ignored, and missing ones are empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Place<'a> {
    #[serde(borrow)]
    continent: Code<'a>,
    country: Names<'a>,
    registered_country: Names<'a>,
    subdivisions: Vec<Code<'a>>,
    city: Names<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Code<'a> {
    code: &'a str,
    iso_code: &'a str,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Names<'a> {
    #[serde(borrow)]
    names: English<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct English<'a> {
    en: &'a str,
}

impl Place<'_> {
    fn name(&self) -> Option<String> {
        let country = match self.country.names.en {
            "" => self.registered_country.names.en,
            country => country,
        };
        let subdivision = self.subdivisions.first().map_or("", |first| first.iso_code);
        let parts = [self.continent.code, country, subdivision, self.city.names.en];
        let known = parts.iter().rposition(|part| !part.is_empty())?;
        Some(parts[..=known].join("/"))
    }
}

/// The fields read from an ASN or ISP record.
#[derive(Default, Deserialize)]
#[serde(default)]
struct System<'a> {
    autonomous_system_number: u32,
    #[serde(borrow)]
    autonomous_system_organization: &'a str,
}

impl System<'_> {
    fn name(&self) -> Option<String> {
        match (self.autonomous_system_number, self.autonomous_system_organization) {
            (0, _) => None,
            (number, "") => Some(number.to_string()),
            (number, organization) => Some(format!("{number}/{organization}")),
        }
    }
}
