//! The Workload API is the standard's to the letter (conformance.md, F1), and reflection tells of it.

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{FieldDescriptorProto, FileDescriptorSet};
use quorate_proto_api::FILE_DESCRIPTOR_SET;

/// Message, field, number, and what kind it is, as F1 lists them.
const FIELDS: [(&str, &str, i32, &str); 28] = [
    ("X509SVIDResponse", "svids", 1, "repeated .X509SVID"),
    ("X509SVIDResponse", "crl", 2, "repeated bytes"),
    ("X509SVIDResponse", "federated_bundles", 3, "repeated .X509SVIDResponse.FederatedBundlesEntry"),
    ("X509SVID", "spiffe_id", 1, "string"),
    ("X509SVID", "x509_svid", 2, "bytes"),
    ("X509SVID", "x509_svid_key", 3, "bytes"),
    ("X509SVID", "bundle", 4, "bytes"),
    ("X509SVID", "hint", 5, "string"),
    ("X509BundlesResponse", "crl", 1, "repeated bytes"),
    ("X509BundlesResponse", "bundles", 2, "repeated .X509BundlesResponse.BundlesEntry"),
    ("JWTSVIDRequest", "audience", 1, "repeated string"),
    ("JWTSVIDRequest", "spiffe_id", 2, "string"),
    ("JWTSVIDResponse", "svids", 1, "repeated .JWTSVID"),
    ("JWTSVID", "spiffe_id", 1, "string"),
    ("JWTSVID", "svid", 2, "string"),
    ("JWTSVID", "hint", 3, "string"),
    ("JWTBundlesResponse", "bundles", 1, "repeated .JWTBundlesResponse.BundlesEntry"),
    ("ValidateJWTSVIDRequest", "audience", 1, "string"),
    ("ValidateJWTSVIDRequest", "svid", 2, "string"),
    ("ValidateJWTSVIDResponse", "spiffe_id", 1, "string"),
    ("ValidateJWTSVIDResponse", "claims", 2, ".google.protobuf.Struct"),
    ("WITSVIDRequest", "spiffe_id", 1, "string"),
    ("WITSVIDResponse", "svids", 1, "repeated .WITSVID"),
    ("WITSVID", "spiffe_id", 1, "string"),
    ("WITSVID", "wit_svid", 2, "string"),
    ("WITSVID", "wit_svid_key", 3, "string"),
    ("WITSVID", "hint", 4, "string"),
    ("WITBundlesResponse", "bundles", 1, "repeated .WITBundlesResponse.BundlesEntry"),
];

/// RPCs of the service: name, and whether the answer is a stream.
const CALLS: [(&str, bool); 7] = [
    ("FetchX509SVID", true),
    ("FetchX509Bundles", true),
    ("FetchJWTSVID", false),
    ("FetchJWTBundles", true),
    ("ValidateJWTSVID", false),
    ("FetchWITSVID", true),
    ("FetchWITBundles", true),
];

fn kind(field: &FieldDescriptorProto) -> String {
    let label = if field.label() == Label::Repeated { "repeated " } else { "" };
    let plain = [(Type::String, "string"), (Type::Bytes, "bytes")];
    let kind = plain.iter().find(|(kind, _)| *kind == field.r#type()).map_or(field.type_name(), |(_, name)| name);
    format!("{label}{kind}")
}

/// EP-01, EP-24, WAPI-04, WAPI-05.
#[test]
fn the_workload_api_has_the_names_numbers_and_kinds_of_the_standard() {
    // WAPI-04, WAPI-05, EP-24: nothing missing, nothing added, no package.
    let descriptors = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors decode");
    let file = descriptors.file.iter().find(|file| file.name() == "workload.proto").expect("it is there");
    assert_eq!(file.package(), "");
    assert_eq!(file.syntax(), "proto3");

    let mut expected: Vec<_> =
        FIELDS.iter().map(|(message, field, number, kind)| format!("{message}.{field} {number} {kind}")).collect();
    let mut found: Vec<_> = file
        .message_type
        .iter()
        .flat_map(|message| {
            message
                .field
                .iter()
                .map(|field| format!("{}.{} {} {}", message.name(), field.name(), field.number(), kind(field)))
        })
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);

    let service = file.service.first().expect("one service");
    assert_eq!((service.name(), file.service.len()), ("SpiffeWorkloadAPI", 1));
    let calls: Vec<_> = service.method.iter().map(|call| (call.name(), call.server_streaming())).collect();
    assert_eq!(calls, CALLS);
    assert!(service.method.iter().all(|call| !call.client_streaming()));
}

#[test]
fn reflection_tells_of_the_workload_api_and_health_and_nothing_else() {
    let descriptors = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors decode");
    let names: Vec<_> = descriptors.file.iter().map(|file| file.name()).collect();
    assert_eq!(names, ["google/protobuf/struct.proto", "workload.proto", "grpc/health/v1/health.proto"]);
}
