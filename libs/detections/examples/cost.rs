//! Measures what rules cost, on one core: `cargo run --release --example cost`.
//!
//! Records of its own making go through the parser, then through none, the shipped and a thousand rules. What is told of each is
//! records a second, and how much less that is than without rules.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

use std::{fmt::Write as _, hint::black_box, process::ExitCode, time::Instant};

use gumshoe_detections::RuleSet;
use gumshoe_model::{DeadLetter, Event};
use gumshoe_records::{Options, Sink, Stop, read};

const RECORDS: usize = 400_000;
const ROUNDS: usize = 3;
/// What is called, and how often of a thousand: reads of objects, keys and lists mostly, as in accounts that work.
const CALLS: [(&str, &str, usize); 10] = [
    ("s3", "GetObject", 350),
    ("kms", "Decrypt", 200),
    ("sts", "AssumeRole", 150),
    ("ec2", "DescribeInstances", 120),
    ("s3", "PutObject", 80),
    ("logs", "CreateLogStream", 50),
    ("dynamodb", "GetItem", 30),
    ("secretsmanager", "GetSecretValue", 15),
    ("iam", "ListRoles", 4),
    ("iam", "CreateAccessKey", 1),
];

struct Match<'r> {
    rules: Option<&'r RuleSet>,
    marks: String,
    matches: u64,
}

impl Sink for Match<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        black_box(event);
        if let Some(rules) = self.rules {
            rules.mark(event, &mut self.marks);
            self.matches += u64::from(!self.marks.is_empty());
        }
        Ok(())
    }

    fn dead_letter(&mut self, _: &DeadLetter<'_>) -> Result<(), Stop> {
        Err(Stop)
    }
}

fn records() -> String {
    let mut text = String::new();
    for number in 0..RECORDS {
        let mut place = number * 7_919 % 1_000;
        let (service, operation, _) = CALLS
            .into_iter()
            .find(|(_, _, share)| {
                let here = place < *share;
                place = place.saturating_sub(*share);
                here
            })
            .unwrap_or_default();
        let user = number % 97;
        let _ = writeln!(
            text,
            r#"{{"eventVersion":"1.09","userIdentity":{{"type":"AssumedRole","principalId":"AROAEXAMPLE{user:08}:session-{user}","arn":"arn:aws:sts::111122223333:assumed-role/role-{user}/session-{user}","accountId":"111122223333","accessKeyId":"ASIAEXAMPLE{user:08}","sessionContext":{{"sessionIssuer":{{"type":"Role","principalId":"AROAEXAMPLE{user:08}","arn":"arn:aws:iam::111122223333:role/role-{user}","accountId":"111122223333","userName":"role-{user}"}},"attributes":{{"creationDate":"2024-05-01T09:00:00Z","mfaAuthenticated":"false"}}}}}},"eventTime":"2024-05-01T10:{:02}:00Z","eventSource":"{service}.amazonaws.com","eventName":"{operation}","awsRegion":"eu-west-1","sourceIPAddress":"198.51.100.{user}","userAgent":"Boto3/1.34.11 md/Botocore#1.34.11 ua/2.0 os/linux#5.10.205 md/arch#x86_64 lang/python#3.11.6 md/pyimpl#CPython","requestParameters":{{"bucketName":"name-{user}","key":"some/where/in/the/bucket/{number}.parquet","Host":"name-{user}.s3.eu-west-1.amazonaws.com"}},"responseElements":null,"additionalEventData":{{"SignatureVersion":"SigV4","CipherSuite":"ECDHE-RSA-AES128-GCM-SHA256","bytesTransferredIn":0,"bytesTransferredOut":{number}}},"requestID":"8RJPPQN6{number:08}","eventID":"1b37f2f5-9b80-47a0-b3df-{number:012}","readOnly":true,"eventType":"AwsApiCall","managementEvent":false,"recipientAccountId":"111122223333","eventCategory":"Data","tlsDetails":{{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"s3.eu-west-1.amazonaws.com"}}}}"#,
            number % 60
        );
    }
    text
}

/// So many rules that nobody has written: each names operations, and looks into the record of some.
fn thousand() -> Vec<(String, String)> {
    let rule = |number: usize| {
        let (service, operation) = match number % 10 {
            // One in ten is about something that happens.
            0 => CALLS.get(number / 10 % CALLS.len()).map_or(("s3", "GetObject".to_owned()), |(service, operation, _)| (*service, (*operation).to_owned())),
            _ => ("ec2", format!("Operation{number}")),
        };
        let text = format!(
            "title: Rule {number}\nid: 00000000-0000-4000-8000-{number:012}\nlogsource: {{product: aws, service: cloudtrail}}\ndetection:\n  selection:\n    \
             eventSource: {service}.amazonaws.com\n    eventName: [{operation}, Other{number}]\n    userAgent|contains: tool-{number}\n    \
             requestParameters.name: x{number}\n  filter:\n    sourceIPAddress|cidr: 10.0.0.0/8\n  condition: selection and not filter\nlevel: low\n"
        );
        (format!("{number}.yml"), text)
    };
    (0..1_000).map(rule).collect()
}

fn measure(text: &str, rules: Option<&RuleSet>) -> Result<(f64, u64), Box<dyn std::error::Error>> {
    let (mut best, mut matches) = (f64::INFINITY, 0);
    for _ in 0..ROUNDS {
        let mut sink = Match { rules, marks: String::new(), matches: 0 };
        let start = Instant::now();
        read(text.as_bytes(), &Options::default(), &mut sink)?;
        best = best.min(start.elapsed().as_secs_f64());
        matches = sink.matches;
    }
    Ok((RECORDS as f64 / best, matches))
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let text = records();
    let (without, _) = measure(&text, None)?;
    println!("no rules: {without:.0} records a second");
    for (name, rules) in [("shipped", RuleSet::shipped()?), ("a thousand", RuleSet::parse(&thousand())?)] {
        let (with, matches) = measure(&text, Some(&rules))?;
        println!("{name} ({}): {with:.0} records a second, {:.1}% less, {matches} matches", rules.len(), 100.0 * (1.0 - with / without));
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
