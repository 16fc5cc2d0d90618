"""Replicas die in mid-answer: does the next owner go on with the very answer, and what does the provider generate?

A cluster of its own (``chatcluster up``) asks a simulated model that runs in this process, so that its counts are at
hand. In each wave a few chats are asked, a replica that owns some of them is killed (``kill -9``) at a moment that is
left to chance, and every chat is read to its end through the port that all replicas share. What is counted:

* ``takeovers``: chats whose owner was killed in mid-answer;
* ``resumed`` and ``anew``: how often readers were told that the answer goes on, and in how many of those chats that it
  begins anew;
* ``generations``: answers that the provider began; ``generated`` and ``needed``: tokens that it said, and that the
  answers have;
* ``inexact``: answers whose words, as they were streamed, are not exactly those that were to be said: lost or repeated;
* ``short``: answers whose message came before the last of their frames, which is no violation.

A violation is, with ``background``, a generation more than there are chats; with ``prefix``, a takeover that began the
answer anew although words of it were there; with either, a lost or repeated word.
"""
