"""System: what differs from one computer to the next and has nothing to do with images or nets.

Locks on every kind of disk, terminals of every encoding, Google Colab, the mark on our own output, the report of an
unforeseen error.
Imported by: everything except lessons. It imports plain modules only.
"""
