//! Stored form of the command envelope and of a batch. Version 1, 2026-11-23.

use bytes::Bytes;
use prost::{Message, Oneof};
use quorate_proto_identity::UnixMillis;

use super::operation::{StoredOperation, from_operation, to_operation};
use super::{StoredError, at_most, present, spiffe_id};
use crate::COMMAND_VERSION;
use crate::command::{
    CALLER_ADDRESS_LIMIT, COMMAND_BYTES_LIMIT, COMMANDS_PER_BATCH, Caller, CallerIdentity, Command, CommandBatch,
    OPERATIONS_PER_COMMAND, Origin,
};

/// Format of the envelope. A change that older versions cannot read raises it.
const FORMAT: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct StoredCommand {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint32, tag = "2")]
    min_version: u32,
    #[prost(message, optional, tag = "3")]
    origin: Option<StoredOrigin>,
    #[prost(message, optional, tag = "4")]
    caller: Option<StoredCaller>,
    #[prost(int64, tag = "5")]
    time_millis: i64,
    #[prost(message, repeated, tag = "6")]
    operations: Vec<StoredOperation>,
}

/// The part of the envelope that every version can read; looked at before the rest is.
#[derive(Clone, Copy, PartialEq, Message)]
struct StoredVersions {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint32, tag = "2")]
    min_version: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredOrigin {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    boot: u64,
    #[prost(uint64, tag = "3")]
    sequence: u64,
    #[prost(uint64, tag = "4")]
    acknowledged: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredCaller {
    #[prost(oneof = "StoredIdentity", tags = "1, 2, 3")]
    identity: Option<StoredIdentity>,
    #[prost(string, tag = "4")]
    address: String,
}

#[derive(Clone, PartialEq, Oneof)]
enum StoredIdentity {
    #[prost(message, tag = "1")]
    Node(StoredNode),
    #[prost(message, tag = "2")]
    Unix(StoredUnix),
    #[prost(string, tag = "3")]
    Spiffe(String),
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredNode {}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredUnix {
    #[prost(uint32, tag = "1")]
    uid: u32,
    #[prost(uint32, tag = "2")]
    gid: u32,
    #[prost(uint32, tag = "3")]
    pid: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredBatch {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    commands: Vec<Bytes>,
}

impl Command {
    /// The stored form, which is also the form in which it travels between nodes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        from_command(self).encode_to_vec().into()
    }

    /// Reads the stored form, and checks all of it: nothing in it is passed over.
    ///
    /// # Errors
    /// When the bytes are damaged, hold a value that cannot be or a field that is not known here, or were written for a
    /// newer version.
    pub fn decode(bytes: Bytes) -> Result<Self, StoredError> {
        if bytes.len() > COMMAND_BYTES_LIMIT {
            return Err(StoredError::TooMuch {
                what: "bytes of a command",
                length: bytes.len(),
                limit: COMMAND_BYTES_LIMIT,
            });
        }
        let StoredVersions { format, min_version } = StoredVersions::decode(bytes.clone())?;
        if format > FORMAT {
            return Err(StoredError::NewerFormat { format, known: FORMAT });
        }
        if min_version > COMMAND_VERSION {
            return Err(StoredError::NeedsVersion { needed: min_version, have: COMMAND_VERSION });
        }
        if format == 0 || min_version == 0 {
            return Err(StoredError::Missing { what: "version of a command" });
        }
        let command = to_command(StoredCommand::decode(bytes.clone())?)?;
        // Protobuf passes over fields that it does not know. Here that would be to apply something else than the others
        // do, if a newer version ever forgot to raise the least version of a command to which it added something.
        let known = StoredCommand { format, min_version, ..from_command(&command) };
        if known.encoded_len() != bytes.len() || known.encode_to_vec() != bytes {
            return Err(StoredError::NotUnderstood { what: "command" });
        }
        Ok(command)
    }
}

impl CommandBatch {
    /// The stored form: what one entry of the Raft log carries.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        Self::encode_commands(self.commands.iter().map(Command::encode))
    }

    /// The stored form of a batch whose commands are in their stored form already.
    #[must_use]
    pub fn encode_commands(commands: impl IntoIterator<Item = Bytes>) -> Bytes {
        StoredBatch { commands: commands.into_iter().collect() }.encode_to_vec().into()
    }

    /// Reads the stored form, and checks all of it.
    ///
    /// # Errors
    /// As [`Command::decode`], for the first command at fault; and when there are more than
    /// [`COMMANDS_PER_BATCH`] of them.
    pub fn decode(bytes: Bytes) -> Result<Self, StoredError> {
        let length = bytes.len();
        let stored = StoredBatch::decode(bytes)?;
        if stored.encoded_len() != length {
            return Err(StoredError::NotUnderstood { what: "batch of commands" });
        }
        let StoredBatch { commands } = stored;
        at_most(&commands, COMMANDS_PER_BATCH, "commands of a batch")?;
        Ok(Self { commands: commands.into_iter().map(Command::decode).collect::<Result<_, _>>()? })
    }
}

fn from_command(command: &Command) -> StoredCommand {
    let Command { origin, caller, time, operations } = command;
    let Origin { node, boot, sequence, acknowledged } = *origin;
    let Caller { identity, address } = caller;
    StoredCommand {
        format: FORMAT,
        min_version: command.min_version(),
        origin: Some(StoredOrigin { node, boot, sequence, acknowledged }),
        caller: Some(StoredCaller {
            identity: Some(match identity {
                CallerIdentity::Node => StoredIdentity::Node(StoredNode {}),
                CallerIdentity::Unix { uid, gid, pid } => {
                    StoredIdentity::Unix(StoredUnix { uid: *uid, gid: *gid, pid: *pid })
                }
                CallerIdentity::Spiffe(id) => StoredIdentity::Spiffe(id.as_str().to_owned()),
            }),
            address: address.clone(),
        }),
        time_millis: time.0,
        operations: operations.iter().map(from_operation).collect(),
    }
}

fn to_command(stored: StoredCommand) -> Result<Command, StoredError> {
    at_most(&stored.operations, OPERATIONS_PER_COMMAND, "operations of a command")?;
    let StoredOrigin { node, boot, sequence, acknowledged } = present(stored.origin, "origin of a command")?;
    let caller = present(stored.caller, "caller of a command")?;
    at_most(caller.address.as_bytes(), CALLER_ADDRESS_LIMIT, "bytes of a caller's address")?;
    Ok(Command {
        origin: Origin { node, boot, sequence, acknowledged },
        caller: Caller {
            identity: match present(caller.identity, "identity of a caller")? {
                StoredIdentity::Node(StoredNode {}) => CallerIdentity::Node,
                StoredIdentity::Unix(StoredUnix { uid, gid, pid }) => CallerIdentity::Unix { uid, gid, pid },
                StoredIdentity::Spiffe(id) => CallerIdentity::Spiffe(spiffe_id(&id, "SPIFFE ID of a caller")?),
            },
            address: caller.address,
        },
        time: UnixMillis(stored.time_millis),
        operations: stored.operations.into_iter().map(to_operation).collect::<Result<_, StoredError>>()?,
    })
}
