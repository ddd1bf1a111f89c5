DROP TABLE invoker.test_calls;
