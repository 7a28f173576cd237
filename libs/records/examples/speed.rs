//! Measures how fast records become events on one core: `cargo run --release --example speed`, or with files as arguments.
//!
//! Without arguments it reads text of its own making: 256 MiB each of CloudTrail as one `{"Records":[…]}`, as lines, and of a flow log.
#![expect(clippy::print_stdout, clippy::print_stderr, clippy::indexing_slicing, reason = "a command-line tool")]

use std::{env, fmt::Write as _, fs, hint::black_box, process::ExitCode, time::Instant};

use gumshoe_model::{DeadLetter, Event};
use gumshoe_records::{Options, ReadError, Sink, Stop, read};

const BYTES: usize = 256 << 20;

struct Discard;

impl Sink for Discard {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        black_box(event);
        Ok(())
    }

    fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Stop> {
        black_box(letter);
        Ok(())
    }
}

fn record(text: &mut String, number: usize) {
    let (user, region, day, minute) = (number % 97, ["us-east-1", "eu-west-1", "ap-southeast-2"][number % 3], 1 + number % 28, number % 60);
    let (name, key) = [("GetObject", "bucketName"), ("DescribeInstances", "instanceId"), ("GetSecretValue", "secretId"), ("Decrypt", "keyId")][number % 4];
    let service = ["s3", "ec2", "secretsmanager", "kms"][number % 4];
    let _ = write!(
        text,
        r#"{{"eventVersion":"1.09","userIdentity":{{"type":"AssumedRole","principalId":"AROAEXAMPLE{user:08}:session-{user}","arn":"arn:aws:sts::111122223333:assumed-role/role-{user}/session-{user}","accountId":"111122223333","accessKeyId":"ASIAEXAMPLE{user:08}","sessionContext":{{"sessionIssuer":{{"type":"Role","principalId":"AROAEXAMPLE{user:08}","arn":"arn:aws:iam::111122223333:role/role-{user}","accountId":"111122223333","userName":"role-{user}"}},"attributes":{{"creationDate":"2024-05-{day:02}T09:00:00Z","mfaAuthenticated":"false"}}}}}},"eventTime":"2024-05-{day:02}T10:{minute:02}:00Z","eventSource":"{service}.amazonaws.com","eventName":"{name}","awsRegion":"{region}","sourceIPAddress":"198.51.100.{user}","userAgent":"Boto3/1.34.11 md/Botocore#1.34.11 ua/2.0 os/linux#5.10.205-195.807.amzn2.x86_64 md/arch#x86_64 lang/python#3.11.6 md/pyimpl#CPython cfg/retry-mode#legacy Botocore/1.34.11","requestParameters":{{"{key}":"name-{user}","key":"some/where/in/the/bucket/{number}.parquet","Host":"name-{user}.s3.{region}.amazonaws.com"}},"responseElements":null,"additionalEventData":{{"SignatureVersion":"SigV4","CipherSuite":"ECDHE-RSA-AES128-GCM-SHA256","bytesTransferredIn":0,"AuthenticationMethod":"AuthHeader","x-amz-id-2":"dNg98Ncsm0R/PygSHq0b0Qiyx2TDUq9jgC9wSxasWFiQ/hJPz1rv2RWiUWErUcWAZyJqKoxckNM=","bytesTransferredOut":{number}}},"requestID":"8RJPPQN6{number:08}","eventID":"1b37f2f5-9b80-47a0-b3df-{number:012}","readOnly":true,"eventType":"AwsApiCall","managementEvent":false,"recipientAccountId":"111122223333","eventCategory":"Data","tlsDetails":{{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"name-{user}.s3.{region}.amazonaws.com"}}}}"#
    );
}

fn cloudtrail(before: &str, between: &str, after: &str) -> String {
    let mut text = String::with_capacity(BYTES + 4096);
    text.push_str(before);
    let mut number = 0;
    while text.len() < BYTES {
        if number > 0 {
            text.push_str(between);
        }
        record(&mut text, number);
        number += 1;
    }
    text + after
}

fn flow() -> String {
    let mut text = String::with_capacity(BYTES + 4096);
    text.push_str("version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status\n");
    let mut number = 0_u64;
    while text.len() < BYTES {
        let (a, b) = (number % 200, number % 251);
        let _ = writeln!(
            text,
            "2 111122223333 eni-0a0b0c0d0e0f{a:04} 10.0.{a}.{b} 203.0.113.{a} {} 443 6 {} {} 1714557600 1714557660 ACCEPT OK",
            32768 + number % 20000,
            number % 90,
            number * 7 % 100_000
        );
        number += 1;
    }
    text
}

fn measure(name: &str, bytes: &[u8]) -> Result<(), ReadError> {
    let start = Instant::now();
    let summary = read(bytes, &Options::default(), &mut Discard)?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{name}: {:.0} MB/s, {:.0} records/s ({} events, {} dead letters)",
        summary.bytes as f64 / 1e6 / seconds,
        summary.records as f64 / seconds,
        summary.events,
        summary.dead_letters
    );
    Ok(())
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<_> = env::args_os().skip(1).collect();
    for file in &files {
        measure(&file.to_string_lossy(), &fs::read(file)?)?;
    }
    if files.is_empty() {
        measure("CloudTrail, one object", cloudtrail("{\"Records\":[", ",", "]}").as_bytes())?;
        measure("CloudTrail, lines", cloudtrail("", "\n", "\n").as_bytes())?;
        measure("flow log", flow().as_bytes())?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
