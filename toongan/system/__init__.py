"""System: what differs from one computer to the next, and has nothing to do with images or nets.

Locks on every kind of disk, terminals of every encoding, Google Colab, the mark on our own output, the report of an error
that nobody foresaw.
Imported by: everything but lessons. It imports plain modules only.
"""
