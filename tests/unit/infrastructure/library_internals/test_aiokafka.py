"""The source of aiokafka that our changes to it rely on has not changed since it was read."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import aiokafka
import pytest
from aiokafka.consumer import fetcher
from aiokafka.producer import sender
from aiokafka.producer.producer import AIOKafkaProducer
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

from contracts.kafka import aiokafka_internals
from services.infrastructure import kafka
from services.infrastructure.library_internals import aiokafka as internals

_PARTITION_RECORDS = internals._LenientPartitionRecords.__base__
READ: list[tuple[str, Callable[..., Any]]] = [
    ("dae60514401a3817", sender.Sender.__init__),
    ("8263eaebb7c30ea1", sender.Sender._do_txn_commit),
    ("33001a36bf6a0ae0", sender.Sender._find_coordinator),
    ("2380dc5e333d9ebd", sender.Sender._sender_routine),
    ("64cc61237ba8e7be", sender.EndTxnHandler.create_request),
    ("89bd9721c28ec792", sender.EndTxnHandler.handle_response),
    ("a889064973b32b84", TransactionManager.complete_transaction),
    ("e0a118be379a7f75", TransactionManager.maybe_add_partition_to_txn),
    ("124ac059b2a77809", TransactionManager.is_empty_transaction),
    ("1e174622d40d330f", TransactionManager.set_pid_and_epoch),
    ("c2b996db50417fee", TransactionManager.sequence_number),
    ("43ef97147111893b", AIOKafkaProducer.stop),
    ("1c8b379944025961", MetadataRequest.__init__),
    ("d3a30d94f34fd3a0", fetcher.Fetcher._notify),
    ("b803e6d46480732c", _PARTITION_RECORDS._unpack_records),
    ("492967e59f459124", _DefaultRecordBatchPy.__iter__),
    ("f1779ecb6d0d344c", _MemoryRecordsPy.next_batch),
]


@pytest.mark.parametrize(("digest", "function"), READ, ids=[function.__qualname__ for _, function in READ])
def test_the_source_is_the_one_that_was_read(digest: str, function: Callable[..., Any]) -> None:
    source = inspect.getsource(function)
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == digest, f"changed in aiokafka {aiokafka.__version__}"


def test_the_wait_between_transactions_is_still_read_where_we_change_it() -> None:
    source = inspect.getsource(sender)

    assert sender.BACKOFF_OVERRIDE == 0.001
    assert source.count("BACKOFF_OVERRIDE") > source.count("BACKOFF_OVERRIDE ="), "aiokafka no longer reads it"


def test_what_we_replace_is_still_called() -> None:
    assert "_do_txn_commit(" in inspect.getsource(sender.Sender)
    assert "EndTxnHandler(" in inspect.getsource(sender.Sender._do_txn_commit)
    assert "MemoryRecords(" in inspect.getsource(fetcher.Fetcher)
    assert "PartitionRecords(" in inspect.getsource(fetcher.Fetcher)
    assert "self._fetcher.close()" in inspect.getsource(aiokafka.AIOKafkaConsumer.stop)


def test_every_client_is_changed() -> None:
    assert "library_internals import aiokafka" in inspect.getsource(kafka)  # every client takes its security there
    assert fetcher.Fetcher.close is aiokafka_internals._close_fetcher  # the SDK's clients too
    assert fetcher.PartitionRecords is internals._LenientPartitionRecords
    assert fetcher.MemoryRecords is internals._RereadableRecords
    assert issubclass(internals._RereadableRecords, MemoryRecords)
    assert MetadataRequest([])._allow_auto_topic_creation is False
