//! Names of types and response codes from IANA's registry "Domain Name System (DNS) Parameters".
//!
//! The JSON spells SERVFAIL as `SRVFAIL`, as pktvisor always did, because existing collectors read
//! that.

use std::borrow::Cow;

/// Returns the name of a resource record type, or `TYPE1234` if it has none (RFC 3597).
pub fn type_name(qtype: u16) -> Cow<'static, str> {
    type_mnemonic(qtype).map_or_else(|| format!("TYPE{qtype}").into(), Cow::Borrowed)
}

/// Returns the name of a resource record type, if it has one.
pub fn type_mnemonic(qtype: u16) -> Option<&'static str> {
    Some(match qtype {
        1 => "A",
        2 => "NS",
        3 => "MD",
        4 => "MF",
        5 => "CNAME",
        6 => "SOA",
        7 => "MB",
        8 => "MG",
        9 => "MR",
        10 => "NULL",
        11 => "WKS",
        12 => "PTR",
        13 => "HINFO",
        14 => "MINFO",
        15 => "MX",
        16 => "TXT",
        17 => "RP",
        18 => "AFSDB",
        19 => "X25",
        20 => "ISDN",
        21 => "RT",
        22 => "NSAP",
        23 => "NSAP-PTR",
        24 => "SIG",
        25 => "KEY",
        26 => "PX",
        27 => "GPOS",
        28 => "AAAA",
        29 => "LOC",
        30 => "NXT",
        31 => "EID",
        32 => "NIMLOC",
        33 => "SRV",
        34 => "ATMA",
        35 => "NAPTR",
        36 => "KX",
        37 => "CERT",
        38 => "A6",
        39 => "DNAME",
        40 => "SINK",
        41 => "OPT",
        42 => "APL",
        43 => "DS",
        44 => "SSHFP",
        45 => "IPSECKEY",
        46 => "RRSIG",
        47 => "NSEC",
        48 => "DNSKEY",
        49 => "DHCID",
        50 => "NSEC3",
        51 => "NSEC3PARAM",
        52 => "TLSA",
        53 => "SMIMEA",
        55 => "HIP",
        56 => "NINFO",
        57 => "RKEY",
        58 => "TALINK",
        59 => "CDS",
        60 => "CDNSKEY",
        61 => "OPENPGPKEY",
        62 => "CSYNC",
        63 => "ZONEMD",
        64 => "SVCB",
        65 => "HTTPS",
        66 => "DSYNC",
        99 => "SPF",
        100 => "UINFO",
        101 => "UID",
        102 => "GID",
        103 => "UNSPEC",
        104 => "NID",
        105 => "L32",
        106 => "L64",
        107 => "LP",
        108 => "EUI48",
        109 => "EUI64",
        128 => "NXNAME",
        249 => "TKEY",
        250 => "TSIG",
        251 => "IXFR",
        252 => "AXFR",
        253 => "MAILB",
        254 => "MAILA",
        255 => "ANY",
        256 => "URI",
        257 => "CAA",
        258 => "AVC",
        259 => "DOA",
        260 => "AMTRELAY",
        261 => "RESINFO",
        262 => "WALLET",
        263 => "CLA",
        264 => "IPN",
        32768 => "TA",
        32769 => "DLV",
        _ => return None,
    })
}

/// RCODE 0: no error.
pub const NOERROR: u16 = 0;
/// RCODE 1: format error.
pub const FORMERR: u16 = 1;
/// RCODE 2: server failure.
pub const SERVFAIL: u16 = 2;
/// RCODE 3: name does not exist.
pub const NXDOMAIN: u16 = 3;
/// RCODE 4: not implemented.
pub const NOTIMP: u16 = 4;
/// RCODE 5: query refused.
pub const REFUSED: u16 = 5;

/// Returns the name of a response code of up to 12 bits (RFC 6891), or `RCODE1234` if it has none.
pub fn rcode_name(rcode: u16) -> Cow<'static, str> {
    match rcode_mnemonic(rcode) {
        _ if rcode == SERVFAIL => "SRVFAIL".into(),
        Some(name) => name.into(),
        None => format!("RCODE{rcode}").into(),
    }
}

/// Returns the mnemonic of a response code, if it has one.
pub fn rcode_mnemonic(rcode: u16) -> Option<&'static str> {
    Some(match rcode {
        NOERROR => "NOERROR",
        FORMERR => "FORMERR",
        SERVFAIL => "SERVFAIL",
        NXDOMAIN => "NXDOMAIN",
        NOTIMP => "NOTIMP",
        REFUSED => "REFUSED",
        6 => "YXDOMAIN",
        7 => "YXRRSET",
        8 => "NXRRSET",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        11 => "DSOTYPENI",
        16 => "BADVERS",
        17 => "BADKEY",
        18 => "BADTIME",
        19 => "BADMODE",
        20 => "BADNAME",
        21 => "BADALG",
        22 => "BADTRUNC",
        23 => "BADCOOKIE",
        _ => return None,
    })
}
